"""Fifty steps of `paper` against the literal loop: its gradients, and the two final paths.

    python -m tests.benchmarks.agreement

*Gradients* are compared at the points that the loop goes through, on its minibatches: differences relative to
the length of the loop's gradient. *Ends* are those of two runs with their own gradients: where one ReLU or
pool switches by a rounding error, single precision sends them apart. How often that happens to single
precision itself is in the rows of the loop in double precision, on the same points.
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tests.benchmarks import literal
from topo_core.objectives.network_loss import ModuleObjective
from topo_core.objectives.protocol import Step
from topo_core.paths.settings import PathSettings
from topo_core.paths.solver import PathSolver
from workers.problems.networks import build
from workers.tasks.specs import NetworkSpec

STEPS, BATCHES, SEED = 50, 5, 7
GOALS = {torch.float64: 1e-12, torch.float32: 1e-5}
NETWORKS = {
    "fc": ({"name": "fc"}, (1, 28, 28), 64, 9),
    "cnn2": ({"name": "cnn2", "channels": 8}, (1, 28, 28), 16, 5),
    "cnn2 with batch norm": (
        {"name": "cnn2", "channels": 8, "batch_norm": True},
        (1, 28, 28),
        16,
        5,
    ),
}
DOUBLE = "the loop in float64"


@dataclass(frozen=True)
class Case:
    """A network of one precision, its data, and the path."""

    module: nn.Module
    objective: ModuleObjective
    path: Tensor

    @classmethod
    def of(cls, network: str, strategy: str, dtype: torch.dtype) -> "Case":
        spec, shape, batch, points = NETWORKS[network]
        draw = torch.Generator().manual_seed(2)
        x = torch.randn(batch * BATCHES, *shape, generator=draw, dtype=torch.float64).to(dtype)
        y = torch.randint(10, (len(x),), generator=draw)
        module = build(NetworkSpec.parse(spec), shape, 10).to(dtype)
        objective = ModuleObjective(
            copy.deepcopy(module), x, y, batch_size=batch, strategy=strategy
        )
        return cls(module, objective, literal.straight(objective, module, points))

    @property
    def settings(self) -> PathSettings:
        epochs = STEPS // BATCHES
        return PathSettings(
            points=len(self.path),
            force="paper",
            epochs=epochs,
            evaluate_every=epochs,
            heights="paper",
        )

    def step(self, path: list[Tensor], number: int) -> None:
        """Step ``number`` of the loop, in place."""
        batch = self.objective.minibatch(Step(SEED, *divmod(number, BATCHES)))
        rate = self.settings.resolve(BATCHES).optimizer.lr
        literal.step(self.module, path, *batch, rate, self.settings.l2)


def distance(network: str, strategy: str, dtype: torch.dtype) -> float:
    """Largest distance of a point's end from that of the loop, relative to how far the loop moved it."""
    case = Case.of(network, strategy, dtype)
    solver = PathSolver(case.objective, case.settings)
    begun = solver.begin(case.path)
    found = solver.advance(begun, SEED, until_epoch=STEPS // BATCHES)
    path = list(case.path)
    for number in range(STEPS):
        case.step(path, number)
    after = torch.stack(path)
    moved = (after - case.path)[1:-1].norm(dim=1)
    return float(((found.points - after)[1:-1].norm(dim=1) / moved).max())


def errors(network: str, strategy: str, dtype: torch.dtype) -> Tensor:
    """Errors [steps * moving points] of gradients at the loop's points, relative to the loop's gradients."""
    double = strategy == DOUBLE
    case = Case.of(network, "literal" if double else strategy, dtype)
    other = copy.deepcopy(case.module).double() if double else case.module
    path, found = list(case.path), []
    for number in range(STEPS):
        step = Step(SEED, *divmod(number, BATCHES))
        x, y = case.objective.minibatch(step)
        rows = torch.stack(path[1:-1])
        theirs = torch.stack([literal.gradient(case.module, row, x, y) for row in rows])
        if double:
            wide = [literal.gradient(other, row, x.double(), y) for row in rows.double()]
            ours = torch.stack(wide)
        else:
            ours = case.objective.gradients(rows, step)[1]
        found.append((ours - theirs).norm(dim=1) / theirs.norm(dim=1))
        case.step(path, number)
    return torch.cat(found)


def main() -> dict[tuple[str, str, str], float]:
    """Print a row for each network, strategy and precision; the worst errors of gradients."""
    print(
        "| network | strategy | precision | gradients: median | worst | above goal | ends | goal |"
    )
    print("|---|---|---|---|---|---|---|---|")
    worst = {}
    for network, (spec, shape, *_) in NETWORKS.items():
        module = build(NetworkSpec.parse(spec), shape, 10)
        offered = literal.offered(module, shape)
        for dtype, goal in GOALS.items():
            name = str(dtype).removeprefix("torch.")
            extra = (DOUBLE,) if dtype == torch.float32 else ()
            for strategy in (*offered, *extra):
                apart = errors(network, strategy, dtype)
                ends = "" if strategy == DOUBLE else f"{distance(network, strategy, dtype):.1e}"
                worst[network, strategy, name] = float(apart.max())
                print(
                    f"| {network} | {strategy} | {name} | {float(apart.median()):.1e} "
                    f"| {float(apart.max()):.1e} | {int((apart > goal).sum())} of {len(apart)} "
                    f"| {ends} | {goal:.0e} |",
                    flush=True,
                )
    return worst


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
