"""From the store to a `Landscape`: minima, passes, barcodes, scores.

Reads records only, so it can be called at any time, from any machine, also while the run goes on; what
is missing is counted, never guessed.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from orchestrator.plan import Pair, Plan
from topo_core.barcode import Barcode, Method, barcode
from topo_core.to_score import to_score
from workers.schema import MinimumRecord, PairRecord, SimplexRecord
from workers.store import Damage, Store

METHODS: tuple[Method, ...] = ("elder", "direct")


@dataclass(frozen=True)
class FailedTask:
    key: str
    what: str
    kind: str
    reason: str


@dataclass(frozen=True)
class PairCounts:
    """`skipped` pairs are those that the rule leaves out, or has proved unnecessary."""

    total: int
    done: int
    skipped: int
    failed: int

    @property
    def open(self) -> int:
        return self.total - self.done - self.skipped - self.failed


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
    failures: tuple[FailedTask, ...] = ()
    damage: tuple[Damage, ...] = ()

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
        """Of the passes whose two minima are there."""
        return {
            pair: record.height
            for pair, record in sorted(self.passes.items())
            if pair[0] in self.minima and pair[1] in self.minima
        }

    @cached_property
    def barcodes(self) -> dict[str, Barcode]:
        """Index 0, by both rules."""
        return {method: barcode(self.losses, self.heights, method) for method in METHODS}

    @cached_property
    def to_scores(self) -> dict[str, float]:
        return {method: to_score(bars) for method, bars in self.barcodes.items()}

    def to_json(self) -> dict[str, Any]:
        """The contract of `reduce --json`; what is infinite is null."""
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
                {"i": i, "j": j, "height": record.height, "outcome": record.outcome}
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
                }
            },
            "to_score": {"0": {m: _number(score) for m, score in self.to_scores.items()}},
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
    """
    minimum_of = {key: index for index, key in enumerate(plan.minimum_keys)}
    minima = {
        minimum_of[record.key]: record
        for record in store.records(MinimumRecord)
        if record.key in minimum_of
    }
    wanted = {plan.pair_key(pair): pair for pair in plan.pairs()}
    passes = {
        wanted[record.key]: record for record in store.records(PairRecord) if record.key in wanted
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
    failures = {k: f for k, f in failures.items() if k in wanted or k in minimum_of or expected}
    dead = {index for key, index in minimum_of.items() if key in failures}
    failed_pairs = sum(
        1
        for key, pair in wanted.items()
        if pair not in passes and (key in failures or dead & set(pair))
    )
    n = len(plan.minima)
    total = n * (n - 1) // 2
    return Landscape(
        run=plan.run.name,
        minima=minima,
        passes=passes,
        counts=PairCounts(total, len(passes), total - len(wanted), failed_pairs),
        minima_expected=n,
        simplices=simplices,
        simplices_expected=expected,
        failures=tuple(failures.values()),
        damage=tuple(store.damage()),
    )
