"""What is timed, by name. Each workload does the literal loop's work once, and ours once."""

import copy
import functools
import math
import time
from collections.abc import Callable
from dataclasses import replace

import torch

from tests.benchmarks import literal
from topo_core.objectives.network_loss import ModuleObjective
from topo_core.objectives.protocol import Step
from topo_core.paths.settings import PathSettings
from topo_core.paths.solver import PathSolver
from topo_core.paths.state import PathState
from topo_core.paths.update_settings import OptimizerSettings
from workers.execution.strategy_probe import fastest
from workers.problems.data_placement import placement_of
from workers.problems.dataset import Dataset
from workers.problems.evaluation import Evaluation
from workers.problems.loaded_problem import LoadedProblem
from workers.problems.networks import build
from workers.tasks.path_tasks import PathTaskSettings
from workers.tasks.problem import Problem
from workers.tasks.specs import DataSpec, NetworkSpec

NETWORKS = {
    # name: (network, shape of an example, batch, moving points, minibatches in one measurement)
    "fc": ({"name": "fc"}, (1, 28, 28), 256, 17, 8),
    "cnn2": ({"name": "cnn2", "channels": 32}, (1, 28, 28), 128, 8, 1),
    "cnn3": ({"name": "cnn3", "channels": 32}, (3, 32, 32), 128, 8, 1),
    "resnet": ({"name": "resnet"}, (3, 32, 32), 128, 4, 1),
}
ENDLESS = 1_000_000  # epochs: no measurement of heights falls into what is timed


class Workload:
    """A network, random data, and a path on a device; a strategy that is None is what a run would choose."""

    def __init__(self, network: str, strategy: str | None = None, device: str = "cpu") -> None:
        spec, shape, batch, moving, batches = NETWORKS[network]
        self.batch, self.moving = batch, moving
        draw = torch.Generator().manual_seed(1)
        self.x = torch.randn(batch * batches, *shape, generator=draw).to(device)
        self.y = torch.randint(10, (len(self.x),), generator=draw).to(device)
        self.module = build(NetworkSpec.parse(spec), shape, 10).to(device)
        strategy = strategy or self._probed(NetworkSpec.parse(spec))
        self.objective = ModuleObjective(
            copy.deepcopy(self.module), self.x, self.y, batch_size=batch, strategy=strategy
        )
        self.points = literal.straight(self.objective, self.module, moving + 2)
        self.path = list(self.points)
        # As in Algorithm 2 but for the projection, which is the default one.
        self.settings = PathSettings(
            points=moving + 2,
            start="line",
            epochs=ENDLESS,
            evaluate_every=ENDLESS,
            optimizer=OptimizerSettings("sgd", lr=1e-3),
        )
        self.state: PathState | None = None

    def _probed(self, spec: NetworkSpec) -> str:
        """The strategy that the probe at the start of a run takes."""
        evaluation = Evaluation(str(self.x.device), threads=torch.get_num_threads())
        data = Dataset(self.x, self.y, self.x, self.y, 10)
        problem = Problem(spec, DataSpec("digits"), "", "")
        placement = placement_of(data.bytes, None, mapped=False)
        loaded = LoadedProblem(problem, data, self.module, evaluation, placement)
        settings = PathTaskSettings(points=self.moving + 2, batch_size=self.batch)
        return fastest(loaded, settings, loaded.strategies())[0].strategy

    def literal(self) -> None:
        """One epoch of the literal loop."""
        for number in range(self.objective.batches):
            x, y = self.objective.minibatch(Step(0, 0, number))
            literal.step(self.module, self.path, x, y, 1e-3, 1e-5)

    def ours(self) -> None:
        """One epoch of a path: evaluation, projection, and redistribution every ten steps."""
        if self.state is None:
            self.state = endless(
                PathSolver(Unmeasured(self.objective), self.settings).begin(self.points)
            )
        self.state = PathSolver(self.objective, self.settings).advance(
            self.state, 0, until_epoch=self.state.epoch + 1
        )

    def dense_literal(self) -> torch.Tensor:
        """Losses at 91 points of the path's polygon over 5,000 images, one by one."""
        return literal.losses(self.module, self._dense_points(), *self._dense_data())

    def dense_ours(self) -> torch.Tensor:
        """The same through segments, as heights are measured."""
        starts, ends, alphas = self._segments()
        inside = self._dense_objective.losses_on_segments(starts, ends, alphas)
        last = self._dense_objective.losses(self.points[-1:])
        return torch.cat([inside.flatten(), last])

    def _segments(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        alphas = torch.arange(5, dtype=torch.float64).expand(len(self.points) - 1, -1) / 5
        return self.points[:-1], self.points[1:], alphas.to(self.points.device)

    def _dense_points(self) -> torch.Tensor:
        starts, ends, alphas = self._segments()
        weights = alphas.to(starts.dtype)[:, :, None]
        inside = torch.lerp(starts[:, None], ends[:, None], weights).flatten(0, 1)
        return torch.cat([inside, self.points[-1:]])

    @functools.cached_property
    def _dense_objective(self) -> ModuleObjective:
        return ModuleObjective(
            copy.deepcopy(self.module),
            *self._dense_data(),
            batch_size=self.batch,
            strategy=self.objective.strategy,
        )

    def _dense_data(self) -> tuple[torch.Tensor, torch.Tensor]:
        repeats = -(-5000 // len(self.x))
        return (
            self.x.repeat(repeats, *[1] * (self.x.ndim - 1))[:5000],
            self.y.repeat(repeats)[:5000],
        )


def endless(state: PathState) -> PathState:
    """The state with a best height of infinity, so that the path never counts as finished."""
    return replace(state, best_maximum=math.inf)


class Unmeasured:
    """An objective whose whole-set losses are not wanted: they would only delay the first step."""

    def __init__(self, inner: ModuleObjective) -> None:
        self.dimension, self.batches, self.gradients = (
            inner.dimension,
            inner.batches,
            inner.gradients,
        )

    def losses(self, points: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(points), dtype=torch.float64, device=points.device)


def seconds(work: Callable[[], object], *, wall: bool) -> float:
    """Processor time of one call, or wall time. On a shared machine the first is the work done."""
    clock = time.perf_counter if wall else time.process_time
    started = clock()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return clock() - started
