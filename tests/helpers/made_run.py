"""A run whose store was filled by hand, with known losses and heights: nothing is trained."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import combinations
from pathlib import Path

import torch

from orchestrator.planning.plan import Identity, Plan
from orchestrator.run_file.reading import parse
from orchestrator.runs.stored_run import config_of
from workers.problems.evaluation import Evaluation
from workers.storage.open_objects import open_objects
from workers.storage.run_store import Store
from workers.storage.schema import MinimumRecord, PairRecord, SimplexRecord

BEGUN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SAMPLES = 41

Pair = tuple[int, int]


@dataclass(frozen=True)
class Shape:
    """The profile of a made path between its minima.

    Attributes:
        samples: odd, number of points at which its loss was evaluated.
        valleys: number of dips inside the path on either half.
        norms: epochs after which the norms of the gradient at each point were kept.
    """

    samples: int = SAMPLES
    valleys: int = 0
    norms: int = 0

    def rise(self, x: float) -> float:
        """From 0 at the ends to 1 at the peak in the middle."""
        dip = 0.6 * math.sin(2 * math.pi * self.valleys * x) ** 2
        return math.sin(math.pi * x) * (1 - dip)


@dataclass(frozen=True)
class MadeRun:
    folder: Path
    plan: Plan
    store: Store

    def minima(
        self, losses: Mapping[int, float], states: Sequence[dict[str, torch.Tensor]] | None = None
    ) -> None:
        """Publish minima with these losses and weights; the test error grows with the index."""
        records = [self._minimum(i, loss, states and states[i]) for i, loss in losses.items()]
        self.store.publish_records(records, term=1)

    def paths(
        self, heights: Mapping[Pair, float], losses: Sequence[float], shape: "Shape | None" = None
    ) -> None:
        """Publish paths of these heights between minima with these losses."""
        shape = shape or Shape()
        records = [self._path(pair, height, losses, shape) for pair, height in heights.items()]
        self.store.publish_records(records, term=1)

    def triangles(
        self, maxima: Mapping[tuple[int, ...], float], heights: Mapping[Pair, float]
    ) -> None:
        """Publish triangles with these maxima of their own, on edges of these heights."""
        records = [self._triangle(vertices, own, heights) for vertices, own in maxima.items()]
        self.store.publish_records(records, term=1)

    def fails(self, pair: Pair, reason: str) -> None:
        """Write down that a path failed."""
        what = f"path {pair[0]}–{pair[1]}"
        failure = {"what": what, "kind": "diverged", "reason": reason}
        self.store.publish_failure(self.plan.pair_key(pair), failure, term=1)

    def _minimum(
        self, index: int, loss: float, state: dict[str, torch.Tensor] | None
    ) -> MinimumRecord:
        key = self.plan.minimum_keys[index]
        state = state or {"weight": torch.full((2, 3), float(index)), "bias": torch.zeros(2)}
        epochs = self.plan.run.minima.training.epochs
        return MinimumRecord(
            key=key,
            worker=f"w{index % 2}",
            seconds=1.5,
            finished_at=BEGUN + timedelta(seconds=2 * index),
            index=index,
            source="trained",
            loss=loss,
            test_loss=loss + 0.1,
            accuracy=0.99,
            test_accuracy=0.95 - 0.001 * index,
            gradient_norm=1e-3,
            epochs=epochs,
            stop_reason="epochs",
            history=tuple(
                {"epoch": e, "loss": loss + 2 * math.exp(-e), "rate": 1e-3} for e in range(1, 8)
            ),
            object=self.store.publish_minimum(key, state),
        )

    def _path(
        self, pair: Pair, height: float, losses: Sequence[float], shape: "Shape"
    ) -> PairRecord:
        i, j = pair
        key = self.plan.pair_key(pair)
        positions = [k / (shape.samples - 1) for k in range(shape.samples)]
        peak = 0.5
        curve = [
            (height - (losses[i] if x < peak else losses[j])) * shape.rise(x)
            + (losses[i] if x < peak else losses[j])
            for x in positions
        ]
        points = torch.tensor([[float(i), 0.0], [0.5 * (i + j), 1.0], [float(j), 0.0]])
        tensors = {"points": points}
        if shape.norms:
            tensors |= {
                "norm_epochs": torch.tensor([[10 * k] for k in range(1, 1 + shape.norms)]),
                "normal_norms": torch.rand(shape.norms, 1),
                "tangent_norms": torch.rand(shape.norms, 1),
            }
        return PairRecord(
            key=key,
            worker=f"w{(i + j) % 2}",
            seconds=3.0,
            finished_at=BEGUN + timedelta(minutes=1, seconds=3 * (i + j)),
            i=i,
            j=j,
            a=self.plan.minimum_keys[i],
            b=self.plan.minimum_keys[j],
            height=height,
            height_high=height + 1e-4,
            grid_height=height - 1e-2,
            argmax_position=peak,
            positions=positions,
            losses=curve,
            outcome="budget",
            reason="made by hand",
            remaining_fall=0.01,
            first_passage_a=height,
            first_passage_b=height,
            dips_a=False,
            dips_b=False,
            epochs=20,
            points=3,
            gradient_evaluations=20,
            history=tuple(_row(epoch, height) for epoch in (0, 10, 20)),
            object=self.store.publish_path(key, tensors, a="", b=""),
        )

    def _triangle(
        self, vertices: tuple[int, ...], own: float, heights: Mapping[Pair, float]
    ) -> SimplexRecord:
        edges = list(combinations(vertices, 2))
        value = max(own, *(heights[edge] for edge in edges))
        keys = {simplex.vertices: simplex.key for simplex in self.plan.simplices(2)}
        return SimplexRecord(
            key=keys[vertices],
            worker="w0",
            seconds=2.0,
            finished_at=BEGUN + timedelta(minutes=2),
            vertices=vertices,
            faces=[self.plan.pair_key(edge) for edge in edges],
            value=value,
            value_high=value + 1e-4,
            own_maximum=own,
            face_maxima=[heights[edge] for edge in edges],
            outcome="budget",
            reason="made by hand",
            remaining_fall=0.01,
            epochs=10,
            gradient_evaluations=10,
        )


def _row(epoch: int, height: float) -> dict[str, float]:
    fall = 1 + math.exp(-epoch / 5)
    return {
        "epoch": epoch,
        "rate": 0.1,
        "max_loss": height * fall,
        "dense_maximum": height * fall,
        "normal_norm": 0.2 * (fall - 1),
        "tangent_norm": 0.1,
        "length": 2.0,
        "stretch": 1.0,
        "points": 3,
        "gradient_evaluations": epoch,
    }


def made_run(folder: Path, count: int, name: str = "made", **run_file: object) -> MadeRun:
    """A started run of `count` minima and all their pairs, with nothing done."""
    run = parse(
        {
            "name": name,
            "store": str(folder),
            "data": "digits",
            "network": {"name": "fc", "hidden": [2]},
            "minima": {"count": count},
            **run_file,
        }
    )
    plan = Plan(run, Identity("0" * 64, "made"))
    at = folder / name
    at.mkdir(parents=True)
    store = Store(open_objects(str(at)))
    provenance = {"started_at": BEGUN.isoformat(), "packages": {"toscore": "0"}, "gpus": []}
    store.publish_config(config_of(plan, Evaluation(), "", provenance), term=1)
    return MadeRun(at, plan, store)


LOSSES = (0.1, 0.2, 0.3, 0.15)
HEIGHTS: Mapping[Pair, float] = {
    (0, 1): 1.0,
    (0, 2): 0.9,
    (0, 3): 0.8,
    (1, 2): 0.5,
    (1, 3): 0.7,
    (2, 3): 1.2,
}
"""Elder: 1 dies at 0.7 over (1, 3), 2 at 0.5 over (1, 2), 3 at 0.8 over (0, 3)."""


def complete_run(folder: Path, name: str = "made", **run_file: object) -> MadeRun:
    """Four minima and six paths whose barcode is known by hand."""
    made = made_run(folder, len(LOSSES), name, **run_file)
    made.minima(dict(enumerate(LOSSES)))
    made.paths(HEIGHTS, LOSSES)
    return made


TRIANGLES: Mapping[tuple[int, ...], float] = {
    (0, 1, 2): 0.6,
    (0, 1, 3): 1.3,
    (1, 2, 3): 1.5,
    (0, 2, 3): 1.6,
}
"""Index 1: the loop that edge (0, 2) closes at 0.9 is filled by (0, 1, 3) at 1.3, that of (2, 3) at 1.2 by
(1, 2, 3) at 1.5; (0, 1, 2) fills its own at once, and nothing is left for (0, 2, 3) to fill."""


def run_with_loops(folder: Path, name: str = "loops") -> MadeRun:
    """The same with triangles, whose barcode of index 1 is known by hand too."""
    made = complete_run(folder, name, reduce={"max_index": 1})
    made.triangles(TRIANGLES, HEIGHTS)
    return made


def star(losses: Iterable[float], height: float) -> dict[Pair, float]:
    """Paths from minimum 0 to each other one."""
    return {(0, j): height + 1e-4 * j for j, _ in enumerate(losses) if j}
