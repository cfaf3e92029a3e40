"""Minima from a user's checkpoints: weights are read, code is not run, misfits are named."""

import pickle

import pytest
import safetensors.torch
import torch
from torch import nn

from workers.execution.import_minimum import import_minimum
from workers.execution.progress import TaskFailure, TaskProgress
from workers.execution.task_run import TaskContext
from workers.execution.train_minimum import with_noise
from workers.problems.checkpoint_files import read_state_dict
from workers.problems.checkpoints import check_state_dict
from workers.problems.evaluation import Evaluation
from workers.problems.loaded_problem import load_problem
from workers.problems.networks import build
from workers.problems.user_code import BadReference
from workers.storage.open_objects import open_objects
from workers.storage.run_store import Store
from workers.tasks.minimum_tasks import ImportMinimum
from workers.tasks.problem import Problem
from workers.tasks.results import FailureKind
from workers.tasks.specs import DataSpec, NetworkSpec

NETWORK = NetworkSpec.parse({"name": "cnn1", "channels": 2, "batch_norm": True})


@pytest.fixture(scope="module")
def loaded():
    problem = Problem(NETWORK, DataSpec.parse({"name": "digits", "subset": 200}), "data", "net")
    return load_problem(problem, Evaluation())


@pytest.fixture
def state(loaded):
    """The state dict of a network with random weights."""
    module = build(NETWORK, loaded.data.input_shape, loaded.data.classes, seed=3)
    return dict(module.state_dict())


WRITERS = {
    "a.safetensors": safetensors.torch.save_file,
    "a.pt": torch.save,
    "a.pth": lambda state, file: torch.save({"state_dict": state, "epoch": 3}, file),
    "nn.pt": lambda state, file: torch.save(
        {k: nn.Parameter(v) if v.is_floating_point() else v for k, v in state.items()}, file
    ),
}


@pytest.mark.parametrize("name", WRITERS)
def test_formats(tmp_path, state, name):
    """Weights come back bit for bit from every format in which people keep them."""
    file = tmp_path / name
    WRITERS[name](state, file)
    read = read_state_dict(str(file)).state
    assert read.keys() == state.keys()
    assert all(torch.equal(read[key], state[key]) for key in state)


class Trap:
    """Unpickling it would create a file."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return (open, (self.file, "w"))


@pytest.mark.parametrize("wrap", [lambda o: pickle.dumps(o, protocol=2), None])
def test_code_in_a_checkpoint_is_not_run(tmp_path, wrap):
    """A pickle that would act when read is refused by name, and has not acted."""
    file, sprung = tmp_path / "trap.pt", tmp_path / "sprung"
    trap = {"weight": Trap(str(sprung))}
    if wrap is None:
        torch.save(trap, file)
    else:
        file.write_bytes(wrap(trap))
    with pytest.raises(BadReference, match=r"trap\.pt"):
        read_state_dict(str(file))
    assert not sprung.exists()


def test_a_whole_module_is_refused(tmp_path):
    """A pickled module needs code to be read: the sentence says to save the state dict."""
    file = tmp_path / "whole.pt"
    torch.save(nn.Linear(2, 2), file)
    with pytest.raises(BadReference, match=r"whole\.pt.*state_dict"):
        read_state_dict(str(file))


@pytest.mark.parametrize(
    ("name", "content", "names"),
    [
        ("none.pt", None, "cannot be read"),
        ("none.safetensors", None, "cannot be read"),
        ("cut.safetensors", b"\x08\0\0\0\0\0\0\0{", "not a readable checkpoint"),
        ("empty.pt", b"", "is empty"),
    ],
)
def test_unreadable_files(tmp_path, name, content, names):
    """A file that is missing, cut or empty is refused by name."""
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(BadReference) as refused:
        read_state_dict(str(file))
    assert name in str(refused.value) and names in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_cut_archive_is_refused(tmp_path, state):
    """A .pt file that was only partly copied is refused by name."""
    file = tmp_path / "cut.pt"
    torch.save(state, file)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(BadReference, match=r"cut\.pt"):
        read_state_dict(str(file))


def test_tensors_that_are_no_state_dict(tmp_path):
    """A list of tensors has no names to check."""
    file = tmp_path / "list.pt"
    torch.save([torch.zeros(2)], file)
    with pytest.raises(BadReference, match=r"list\.pt, which is no state dict"):
        read_state_dict(str(file))


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda s: s.pop("0.bias"), "f has no 0.bias, which the network has"),
        (lambda s: s.update({"0.bias": torch.zeros(3)}), "0.bias of shape (3,), and the network"),
        (lambda s: s.update({"0.bias": s["0.bias"].half()}), "0.bias of torch.float16"),
        (lambda s: s.update({"9.bias": torch.zeros(3)}), "f has 9.bias, which the network has not"),
    ],
)
def test_a_misfit_is_named(loaded, state, change, names):
    """A name, a shape or a dtype that differs from the network's is reported with both values."""
    change(state)
    with pytest.raises(BadReference) as refused:
        check_state_dict("f", state, loaded.module)
    assert names in str(refused.value)


def test_a_run_in_float64_takes_the_minima_that_it_exported(loaded, state):
    """A checkpoint may have the dtype of the run as well as that of the network's builder."""
    doubled = {k: v.double() if v.is_floating_point() else v for k, v in state.items()}
    check_state_dict("f", doubled, loaded.module, torch.float64)
    check_state_dict("f", state, loaded.module, torch.float64)
    with pytest.raises(BadReference, match=r"of torch\.float64"):
        check_state_dict("f", doubled, loaded.module)


def test_restarts_begin_near_their_checkpoint(tmp_path, loaded, state):
    """A restart changes each tensor by its spread in root mean squares of the tensor; spread 0 by nothing."""
    point = loaded.flat(state)
    assert torch.equal(with_noise(loaded, point, 0.0, 1), point)
    moved = loaded.layout.views(with_noise(loaded, point, 0.25, 1))
    again, other = with_noise(loaded, point, 0.25, 1), with_noise(loaded, point, 0.25, 2)
    assert torch.equal(again, loaded.flat(moved)) and not torch.equal(again, other)
    for name, tensor in moved.items():
        if tensor.numel() > 500:
            ratio = float((tensor - state[name]).norm() / state[name].norm())
            assert ratio == pytest.approx(0.25, rel=0.2)


def test_the_first_misfit_is_named(loaded, state):
    """Of several differences, the first in the network's own order is reported."""
    state["5.bias"] = torch.zeros(3)
    state["0.weight"] = torch.zeros(3)
    with pytest.raises(BadReference, match=r"0\.weight"):
        check_state_dict("f", state, loaded.module)


def test_missing_statistics_are_no_misfit(loaded, state):
    """Batch-norm statistics are recomputed in any case, so a checkpoint may lack them."""
    kept = {k: v for k, v in state.items() if "running" not in k and "num_batches" not in k}
    assert len(kept) < len(state)
    check_state_dict("f", kept, loaded.module)


def test_an_imported_minimum_is_measured(tmp_path, loaded, state):
    """The record has the loss of the weights in the file, and the store their bits."""
    file = tmp_path / "mine.pt"
    torch.save(state, file)
    store = Store(open_objects(str(tmp_path / "run")))
    task = ImportMinimum(loaded.problem, 0, str(file), "content")
    record = import_minimum(task, TaskContext(loaded, store, TaskProgress()))
    assert (record.source, record.stop_reason, record.epochs) == (str(file), "imported", 0)
    point = loaded.flat(state)
    assert record.loss == float(loaded.objective(64).losses(point[None])[0])
    assert torch.equal(loaded.flat(store.read_minimum(record.object)), point)


def test_weights_that_are_not_finite_are_refused_by_name(loaded, state):
    """A checkpoint with NaN or infinite weights is refused before the run, with the tensor's name."""
    for value in (float("nan"), float("inf")):
        broken = {name: tensor.clone() for name, tensor in state.items()}
        broken["0.weight"].view(-1)[0] = value
        with pytest.raises(BadReference, match=r"f has NaN or infinite numbers in 0\.weight"):
            check_state_dict("f", broken, loaded.module)


def test_a_file_that_changed_after_planning(tmp_path, loaded, state):
    """A checkpoint that no longer fits when the task runs fails the task, not the program."""
    state.pop("0.bias")
    torch.save(state, tmp_path / "mine.pt")
    store = Store(open_objects(str(tmp_path / "run")))
    task = ImportMinimum(loaded.problem, 0, str(tmp_path / "mine.pt"), "content")
    with pytest.raises(TaskFailure, match=r"0\.bias") as failed:
        import_minimum(task, TaskContext(loaded, store, TaskProgress()))
    assert failed.value.kind is FailureKind.BAD_INPUT
