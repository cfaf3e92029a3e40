"""A minimum carries all its state: what no point holds comes from the checkpoint, and is exported."""

import sys

import pytest
import safetensors.torch
import torch
from torch import nn

from tests.helpers.problems import problem_of
from workers.execution.import_minimum import import_minimum
from workers.execution.progress import TaskFailure, TaskProgress
from workers.execution.task_run import TaskContext
from workers.problems.checkpoints import check_state_dict, fixed_state_digest
from workers.problems.evaluation import Evaluation
from workers.problems.loaded_problem import load_problem
from workers.problems.network_state import NetworkState
from workers.problems.user_code import BadReference
from workers.storage.open_objects import open_objects
from workers.storage.run_store import Store
from workers.tasks.minimum_tasks import ImportMinimum
from workers.tasks.problem import FixedState

NETWORKS = '''
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm


class Fourier(nn.Module):
    """Random features in a buffer."""

    def __init__(self, width, classes):
        super().__init__()
        self.register_buffer("B", torch.randn(width, 8))
        self.output = nn.Linear(16, classes)

    def forward(self, x):
        angles = x.flatten(1) @ self.B
        return self.output(torch.cat([angles.sin(), angles.cos()], 1))


class Scaler(nn.Module):
    """Mean and deviation of a training set that the builder does not know."""

    def __init__(self, width, classes):
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))
        self.output = nn.Linear(width, classes)

    def forward(self, x):
        return self.output((x.flatten(1) - self.mean) / self.deviation)


def backbone(width, classes):
    """The first layer frozen."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(width, 6), nn.Tanh(), nn.Linear(6, classes))
    module[1].requires_grad_(False)
    return module


class FrozenNorm(nn.Sequential):
    """Batch norm that stays in evaluation."""

    def train(self, mode=True):
        super().train(mode)
        self[2].eval()
        return self


def frozen_norm(width, classes):
    return FrozenNorm(
        nn.Flatten(), nn.Linear(width, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, classes)
    )


class Tied(nn.Module):
    def __init__(self, width, classes):
        super().__init__()
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        self.second.weight = self.first.weight
        self.output = nn.Linear(width, classes)

    def forward(self, x):
        return self.output(torch.tanh(self.second(torch.tanh(self.first(x.flatten(1))))))


def spectral(width, classes):
    return nn.Sequential(nn.Flatten(), spectral_norm(nn.Linear(width, classes)))


def norm(width, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(width, 6), nn.BatchNorm1d(6), nn.Linear(6, classes))


KINDS = {"fourier": Fourier, "scaler": Scaler, "backbone": backbone, "frozen_norm": frozen_norm,
         "tied": Tied, "spectral": spectral, "norm": norm}


def build(kind, input_shape, classes):
    width = 1
    for size in input_shape:
        width *= size
    return KINDS[kind](width, classes)
'''
DATA = {"name": "digits", "subset": 150}
FIXED = ("fourier", "scaler", "backbone", "frozen_norm")


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """The module that holds them, importable as a user's is."""
    folder = tmp_path_factory.mktemp("networks")
    (folder / "statenets.py").write_text(NETWORKS)
    sys.path.insert(0, str(folder))
    import statenets

    yield statenets
    sys.path.remove(str(folder))
    del sys.modules["statenets"]


def network(kind):
    return {"name": "statenets:build", "kind": kind}


def trained(networks, kind, seed, folder, fixed=None):
    """A network with its own state, and a checkpoint of it; `fixed` is the state that it shares."""
    torch.manual_seed(seed)
    module = networks.build(kind, (1, 8, 8), 10)
    kinds = NetworkState.of(module)
    state = module.state_dict()
    with torch.no_grad():
        for name in kinds.fixed:
            if not state[name].is_floating_point():
                continue
            value = fixed[name] if fixed else torch.rand_like(state[name]) + 0.5
            state[name].copy_(value)
    file = folder / f"{kind}{seed}.pt"
    torch.save(module.state_dict(), file)
    return module, str(file)


def plain_loss(module, data):
    with torch.no_grad():
        outputs = module.eval()(data.train_inputs).double()
    return float(nn.functional.cross_entropy(outputs, data.train_targets))


@pytest.mark.parametrize("kind", [*FIXED, "tied"])
def test_imported_losses_are_those_of_the_checkpoint(networks, tmp_path, kind):
    """Part B, 1b: buffers, frozen parameters, frozen batch norm and ties; what is exported loads strictly."""
    first, a = trained(networks, kind, 1, tmp_path)
    second, b = trained(networks, kind, 2, tmp_path, first.state_dict())
    digest = fixed_state_digest(a, networks.build(kind, (1, 8, 8), 10))
    assert bool(digest) is (kind in FIXED)
    fixed = FixedState(a, digest) if digest else None
    problem = problem_of(network(kind), DATA, fixed=fixed)
    loaded = load_problem(problem, Evaluation())
    store = Store(open_objects(str(tmp_path / "run")))
    for index, (module, file) in enumerate([(first, a), (second, b)]):
        task = ImportMinimum(problem, index, file, f"content{index}")
        record = import_minimum(task, TaskContext(loaded, store, TaskProgress()))
        expected = plain_loss(module, loaded.data)
        assert record.loss == pytest.approx(expected, rel=1e-5)
        own = networks.build(kind, (1, 8, 8), 10)
        exported = safetensors.torch.load(store.objects.get(record.object))
        own.load_state_dict(exported, strict=True)
        assert plain_loss(own, loaded.data) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("kind", FIXED)
def test_minima_on_different_landscapes_are_refused(networks, tmp_path, kind):
    """Two checkpoints with other buffers or frozen parameters are named, with what differs."""
    first, a = trained(networks, kind, 1, tmp_path)
    _, b = trained(networks, kind, 2, tmp_path)
    digest = fixed_state_digest(a, first)
    problem = problem_of(network(kind), DATA, fixed=FixedState(a, digest))
    store = Store(open_objects(str(tmp_path / "run")))
    with pytest.raises(TaskFailure, match=r"differ in .* they lie on different landscapes"):
        context = TaskContext(load_problem(problem, Evaluation()), store, TaskProgress())
        import_minimum(ImportMinimum(problem, 1, b, "content"), context)
    assert problem.key != problem_of(network(kind), DATA).key


def test_a_checkpoint_without_a_buffer_is_refused(networks, tmp_path):
    """Random features that are not in the checkpoint cannot be taken from anywhere else."""
    module, _ = trained(networks, "fourier", 1, tmp_path)
    state = {n: v for n, v in module.state_dict().items() if n != "B"}
    with pytest.raises(BadReference, match="has no B, which the network has"):
        check_state_dict("f", state, module)


def test_a_tied_tensor_may_have_one_name(networks, tmp_path):
    """Formats that store shared tensors once keep one of their names, whichever it is."""
    module, _ = trained(networks, "tied", 1, tmp_path)
    state = dict(module.state_dict())
    del state["first.weight"]
    check_state_dict("f", state, module)
    assert torch.equal(NetworkState.of(module).complete(state)["first.weight"], module.first.weight)
    with pytest.raises(
        BadReference, match=r"different values for first\.weight and second\.weight"
    ):
        check_state_dict("f", {**module.state_dict(), "second.weight": torch.ones(64, 64)}, module)


def test_nan_weights_are_refused_by_name(networks, tmp_path):
    """A checkpoint of a training that diverged is no minimum."""
    module, _ = trained(networks, "scaler", 1, tmp_path)
    state = dict(module.state_dict())
    state["output.bias"] = torch.full_like(state["output.bias"], torch.nan)
    with pytest.raises(BadReference, match=r"NaN or infinite numbers in output\.bias"):
        check_state_dict("f", state, module)


def test_buffers_that_change_while_the_network_computes_are_refused(networks):
    """Power iterations of spectral_norm go on in every call: the loss is no function of the weights."""
    with pytest.raises(BadReference, match=r"changes its buffer .*spectral_norm"):
        load_problem(problem_of(network("spectral"), DATA), Evaluation())


def test_statistics_of_batch_norm_are_no_fixed_state(networks):
    """They are recomputed at every point; only a layer that is kept in evaluation keeps its own."""
    assert NetworkState.of(networks.build("norm", (8,), 3)).fixed == ()
    frozen = NetworkState.of(networks.build("frozen_norm", (8,), 3))
    assert "2.running_mean" in frozen.fixed and frozen.statistics == ()


def test_trained_points_export_the_builders_state(networks):
    """Without checkpoints the fixed state is that of the builder, the same for every seed of weights."""
    loaded = load_problem(problem_of(network("fourier"), DATA), Evaluation())
    states = [loaded.state_dict(loaded.initial_point(seed)) for seed in (1, 2)]
    assert torch.equal(states[0]["B"], states[1]["B"])
    assert not torch.equal(states[0]["output.weight"], states[1]["output.weight"])
    module = networks.build("fourier", (1, 8, 8), 10)
    module.load_state_dict(states[0], strict=True)
    row = loaded.flat(states[0])[None]
    assert float(loaded.objective(50).losses(row)[0]) == pytest.approx(
        plain_loss(module, loaded.data), rel=1e-6
    )
