"""Several paths in one call, each on its own minibatch, give the numbers of one call a path."""

import contextlib
import itertools

import pytest
import torch

from tests.topo_core.objectives import test_batching as single
from topo_core.objectives.batching.linear import LinearEvaluator
from topo_core.objectives.batching.linear_segments import LinearSegments
from topo_core.objectives.batching.memory_budget import BudgetedEvaluator
from topo_core.objectives.batching.path_loops import STREAMS, PathLoop
from topo_core.objectives.batching.protocol import Network
from topo_core.objectives.losses import CrossEntropy
from topo_core.objectives.protocol import Step
from topo_core.random_streams import generator

CASES = [*single.CASES, *((network, "literal") for network in ("two layers", "unusual"))]


def paths(module, p, m):
    """p paths of m random points [p, m, d], rows of a larger tensor as those of a path are."""
    return single.points(module, p * (m + 2)).view(p, m + 2, -1)[:, 1:-1]


@pytest.mark.parametrize(("network", "strategy"), CASES)
@pytest.mark.parametrize("batch", [0, 2])
def test_paths_agree_with_one_call_each(network, strategy, batch):
    """Losses and gradients of three paths with different draws, on full and on smaller minibatches."""
    rows = paths(single.NETWORKS[network].double(), 3, 4)
    objective = single.objective(network, strategy)
    steps = [Step(seed, 2, batch) for seed in (5, 6, 7)]
    before = rows.clone()
    losses, gradients = objective.gradients_of_paths(rows, steps)
    for i, step in enumerate(steps):
        expected, slopes = objective.gradients(rows[i], step)
        assert torch.allclose(losses[i], expected, rtol=1e-13)
        assert torch.allclose(gradients[i], slopes, rtol=1e-11, atol=1e-14)
    assert torch.equal(rows, before)


@pytest.mark.parametrize("network", ["two layers", "three layers"])
def test_places_on_segments_at_once_agree(network):
    """The sums that a GPU computes for all points at once are those of one segment after the other."""
    module = single.NETWORKS[network].double()
    evaluated = Network.of(module, CrossEntropy())
    rows = single.points(module, 4)
    alphas = torch.tensor([[0.0, 0.25, 1.0], [0.5, 0.75, 0.1], [0.2, 0.3, 0.4]]).double()
    given = (rows[:-1], rows[1:], alphas, *single.data())
    found = LinearSegments(evaluated).losses(*given)
    assert torch.allclose(found, LinearEvaluator(evaluated).losses_on_segments(*given), rtol=1e-12)
    objective = single.objective(network, "linear")
    cut = objective._on_all_segments(*given[:3]) / single.EXAMPLES
    assert torch.allclose(cut, objective.losses_on_segments(*given[:3]), rtol=1e-12)


class Room:
    """A strategy with room for so many rows, of one path or of several: row sums."""

    def __init__(self, rows):
        self.rows, self.asked = rows, []

    def gradients(self, points, inputs, targets):
        self.asked.append(tuple(points.shape[:-1]))
        if points[..., 0].numel() > self.rows:
            raise torch.OutOfMemoryError("no room")
        share = inputs.sum(-1)[..., None] if points.ndim == 3 else inputs.sum()
        return points.sum(-1) + share, 2 * points

    gradients_of_paths = gradients


def given(p, m):
    draw = generator("room")
    points = torch.randn(p, m, 3, generator=draw, dtype=torch.float64)
    inputs = torch.randn(p, 4, generator=draw, dtype=torch.float64)
    return points, inputs, torch.zeros(p, 4, dtype=torch.int64)


def check(found, points, inputs):
    losses, gradients = found
    assert torch.allclose(losses, points.sum(-1) + inputs.sum(-1)[:, None])
    assert torch.equal(gradients, 2 * points)


def test_out_of_memory_halves_the_paths():
    """Where memory runs out fewer paths share a call, then and later; each keeps its minibatch."""
    room = Room(rows=8)
    budgeted = BudgetedEvaluator(room)
    points, inputs, targets = given(6, 3)
    check(budgeted.gradients_of_paths(points, inputs, targets), points, inputs)
    assert room.asked == [(6, 3), (3, 3), (3,), (3,), (3,), (3,), (3,), (3,)]
    room.asked.clear()
    check(budgeted.gradients_of_paths(points, inputs, targets), points, inputs)
    assert (6, 3) not in room.asked


def test_a_path_that_does_not_fit_is_cut():
    """Below one path its points are cut, as they are for a path alone."""
    room = Room(rows=2)
    points, inputs, targets = given(2, 5)
    check(BudgetedEvaluator(room).gradients_of_paths(points, inputs, targets), points, inputs)
    assert room.asked[-1] == (1,) or room.asked[-1] == (2,)


def test_paths_in_a_call_follow_from_the_budget():
    """Room for seven points is room for two paths of three."""
    room = Room(rows=7)
    points, inputs, targets = given(5, 3)
    budgeted = BudgetedEvaluator(room, at_once=7)
    check(budgeted.gradients_of_paths(points, inputs, targets), points, inputs)
    assert room.asked == [(2, 3), (2, 3), (3,)]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(
    ("network", "strategy"),
    [
        (network, strategy)
        for network, module in single.NETWORKS.items()
        for strategy in single.possible(module, "cuda")
    ],
)
def test_paths_agree_on_a_gpu(network, strategy):
    """On a GPU, graphs and streams included, the numbers of the literal loop in float64."""
    import copy

    from topo_core.objectives.network_loss import ModuleObjective

    module = single.NETWORKS[network].double()
    inputs, targets = (value.cuda() for value in single.data())
    on_gpu = ModuleObjective(
        copy.deepcopy(module).cuda(), inputs, targets, batch_size=single.BATCH, strategy=strategy
    )
    rows = paths(module, 6, 4)
    for batch in (0, 1, 2, 0):
        steps = [Step(seed, 1, batch) for seed in range(6)]
        losses, gradients = on_gpu.gradients_of_paths(rows.cuda(), steps)
        for i, step in enumerate(steps):
            expected, slopes = single.objective(network, "literal").gradients(rows[i], step)
            assert torch.allclose(losses[i].cpu(), expected, rtol=1e-11)
            assert torch.allclose(gradients[i].cpu(), slopes, rtol=1e-9, atol=1e-13)
        rows = rows + 0.01


class Device:
    """Streams of a device that is not there: who waits for whom, in order."""

    def __init__(self, monkeypatch):
        self.log = []
        made = itertools.count()

        class Stream:
            def __init__(this, device=None):
                this.name = f"side{next(made)}"

            def wait_stream(this, other):
                self.log.append((this.name, "waits for", other.name))

        @contextlib.contextmanager
        def inside(stream):
            self.log.append(("enters", stream.name))
            yield

        current = Stream()
        current.name = "current"
        monkeypatch.setattr(torch.cuda, "Stream", Stream)
        monkeypatch.setattr(torch.cuda, "stream", inside)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: current)


def test_streams_fork_and_join(monkeypatch):
    """Each path runs on a stream that waited for the current one, which waits for all at the end."""
    device = Device(monkeypatch)
    points, inputs, targets = given(6, 3)
    loop = PathLoop(Room(rows=99).gradients)
    each = list(zip(points, inputs, targets, strict=True))
    found = loop._on_streams(each, torch.device("cuda"))
    check((torch.stack([f[0] for f in found]), torch.stack([f[1] for f in found])), points, inputs)
    names = {name for what, *rest in device.log if what == "enters" for name in rest}
    assert len(names) == STREAMS
    forks, joins = device.log[:STREAMS], device.log[-STREAMS:]
    assert {fork[0] for fork in forks} == names and {fork[2] for fork in forks} == {"current"}
    assert {join[0] for join in joins} == {"current"} and {join[2] for join in joins} == names
    assert len(device.log) == STREAMS + 6 + STREAMS
