"""From the store to a `Landscape`: minima, passes, barcodes, scores.

Reads records only, so it can be called at any time, from any machine, also while the run goes on; what
is missing is counted, never guessed.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from orchestrator.analysis.higher_index import Homology, homology
from orchestrator.analysis.open_bounds import Undecided, undecided
from orchestrator.analysis.sampling_error import Certified, certified
from orchestrator.planning.discovery import discovered
from orchestrator.planning.pair_rules import Pair
from orchestrator.planning.path_status import PairCounts, standing
from orchestrator.planning.plan import Plan
from topo_core.homology.barcodes import Barcode, Method, barcode
from topo_core.homology.to_scores import to_score
from workers.storage.run_store import Damage, Store
from workers.storage.schema import MinimumRecord, PairRecord, SimplexRecord

PROFILES_UP_TO = 50_000
"""Pairs up to which their profiles and histories are read along."""

METHODS: tuple[Method, ...] = ("elder", "direct")


@dataclass(frozen=True)
class FailedTask:
    key: str
    what: str
    kind: str
    reason: str


@dataclass(frozen=True)
class Landscape:
    """A run, reduced. Minima are numbered as in the plan."""

    run: str
    minima: Mapping[int, MinimumRecord]
    passes: Mapping[Pair, PairRecord]
    counts: PairCounts
    minima_expected: int
    simplices: Mapping[tuple[int, ...], SimplexRecord] = field(default_factory=dict)
    simplices_expected: int = 0
    max_index: int = 0
    failures: tuple[FailedTask, ...] = ()
    damage: tuple[Damage, ...] = ()
    tolerance: float = 0.0
    """What the rule of the pairs may miss, in units of the loss."""

    @property
    def complete(self) -> bool:
        """Nothing that was asked for is missing."""
        return (
            len(self.minima) == self.minima_expected
            and self.counts.open == 0
            and not self.failures
            and len(self.simplices) == self.simplices_expected
        )

    @cached_property
    def losses(self) -> dict[int, float]:
        return {index: record.loss for index, record in sorted(self.minima.items())}

    @cached_property
    def heights(self) -> dict[Pair, float]:
        """Of the passes whose two minima are there, which belong to the path (decision 6)."""
        return {
            pair: max(record.height, *(self.losses[end] for end in pair))
            for pair, record in sorted(self.passes.items())
            if pair[0] in self.minima and pair[1] in self.minima
        }

    @cached_property
    def undecided(self) -> Undecided:
        """What paths that were not run could still change."""
        return undecided(self.losses, self.heights, self.minima_expected, self.tolerance)

    @cached_property
    def barcodes(self) -> dict[str, Barcode]:
        """Index 0, by both rules."""
        return {method: barcode(self.losses, self.heights, method) for method in METHODS}

    @cached_property
    def to_scores(self) -> dict[str, float]:
        return {method: to_score(bars) for method, bars in self.barcodes.items()}

    @cached_property
    def certified(self) -> Certified | None:
        """How right index 0 is; None without minima."""
        return certified(self.losses, self.heights, self.passes) if self.minima else None

    @cached_property
    def homology(self) -> Homology | None:
        """Index 1 and more; None where the run does not ask for it."""
        if not self.max_index or not self.minima:
            return None
        return homology(self.losses, self.heights, self.simplices, self.max_index)

    def to_json(self) -> dict[str, Any]:
        """The contract of `reduce --json`; what is infinite is null."""
        higher = self.homology.barcodes if self.homology else {}
        return {
            "run": self.run,
            "complete": self.complete,
            "minima": [
                {
                    "id": index,
                    "loss": record.loss,
                    "test_loss": _number(record.test_loss),
                    "accuracy": _number(record.accuracy),
                    "test_accuracy": _number(record.test_accuracy),
                    "gradient_norm": _number(record.gradient_norm),
                    "epochs": record.epochs,
                    "stop_reason": record.stop_reason,
                    "seconds": record.seconds,
                }
                for index, record in sorted(self.minima.items())
            ],
            "pairs": {
                "total": self.counts.total,
                "done": self.counts.done,
                "skipped": self.counts.skipped,
                "failed": self.counts.failed,
            },
            "heights": [
                {
                    "i": i,
                    "j": j,
                    "height": self.heights.get((i, j), record.height),
                    "outcome": record.outcome,
                }
                for (i, j), record in sorted(self.passes.items())
            ],
            "barcodes": {
                "0": {
                    method: [
                        {
                            "birth": bar.birth,
                            "death": _number(bar.death),
                            "minimum": bar.minimum,
                            "saddle": list(bar.saddle) if bar.saddle else None,
                        }
                        for bar in bars.bars
                    ]
                    for method, bars in self.barcodes.items()
                },
                **{
                    str(index): [
                        {
                            "birth": bar.birth,
                            "death": _number(bar.death),
                            "born": list(bar.born),
                            "killed": list(bar.killed) if bar.killed else None,
                        }
                        for bar in bars.bars
                    ]
                    for index, bars in higher.items()
                },
            },
            "to_score": {
                "0": {m: _number(score) for m, score in self.to_scores.items()},
                **{str(index): _number(to_score(bars)) for index, bars in higher.items()},
            },
            "undecided": {
                "pairs": self.undecided.pairs,
                "tolerance": self.undecided.tolerance,
                "proved": self.undecided.proved,
                "bars": [
                    {"minimum": minimum, "death_low": low}
                    for minimum, low in sorted(self.undecided.death_low.items())
                ],
            },
            **(self.certified.to_json() if self.certified else {}),
            **(
                {
                    "higher_certificate": {
                        "epsilon": _number(self.homology.epsilon),
                        "remaining_fall": _number(self.homology.remaining_fall),
                    }
                }
                if self.homology
                else {}
            ),
            "failures": [
                {"key": f.key, "task": f.what, "kind": f.kind, "reason": f.reason}
                for f in self.failures
            ],
            "damaged": [{"object": d.name, "reason": d.reason} for d in self.damage],
        }


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def reduce_run(plan: Plan, store: Store) -> Landscape:
    """Read what the store holds of a plan.

    Records of tasks that the plan does not ask for (of an earlier, different run file) are passed over.
    Of very many paths the profiles and histories are left in the store: they would fill the memory.
    """
    plan = discovered(plan, store)
    minimum_of = {key: index for index, key in enumerate(plan.minimum_keys)}
    minima = {
        minimum_of[record.key]: record
        for record in store.records(MinimumRecord)
        if record.key in minimum_of
    }
    simplices: dict[tuple[int, ...], SimplexRecord] = {}
    expected = sum(plan.simplex_count(d) for d in plan.simplex_dimensions)
    if expected:
        names = {
            simplex.key: simplex.vertices
            for dimension in plan.simplex_dimensions
            for simplex in plan.simplices(dimension)
        }
        simplices = {
            names[record.key]: record
            for record in store.records(SimplexRecord)
            if record.key in names
        }
    failures = {
        key: FailedTask(key, failure["what"], failure["kind"], failure["reason"])
        for key, failure in store.failures().items()
    }
    if failures:  # those of an earlier, different run file are passed over
        asked = {*plan.minimum_keys, *plan.path_keys()}
        failures = {key: f for key, f in failures.items() if key in asked or expected}
    losses = {index: record.loss for index, record in minima.items()}
    lists = plan.pair_count <= PROFILES_UP_TO
    paths = standing(plan, losses, store.records(PairRecord, lists=lists), failures)
    return Landscape(
        run=plan.run.name,
        minima=minima,
        passes=paths.passes,
        counts=paths.counts,
        minima_expected=len(plan.minima),
        simplices=simplices,
        simplices_expected=expected,
        max_index=plan.run.reduce.max_index,
        failures=tuple(failures.values()),
        damage=tuple(store.damage()),
        tolerance=plan.run.pairs.tolerance if plan.adaptive else 0.0,
    )
