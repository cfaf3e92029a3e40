"""The results of a run: minima, passes, barcodes and scores.

`orchestrator.analysis.reduction` makes a `Landscape` from the records of a store. Missing results are counted
and never estimated.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from orchestrator.analysis.assessment import Assessment, assess
from orchestrator.analysis.computing_cost import CostRow, cost_of
from orchestrator.analysis.copies import Copies, copies_of
from orchestrator.analysis.higher_index import SimplexHomology, simplex_homology
from orchestrator.analysis.open_bounds import OpenBounds, open_bounds
from orchestrator.analysis.verdicts import Verdicts, verdicts_of
from orchestrator.analysis.verified_barcode import VerifiedBarcode, verified_barcode
from orchestrator.pair_rules.path_requests import Pair
from orchestrator.planning.path_status import PairCounts
from orchestrator.planning.saddle_refinement import UnlistedEnd, unlisted_ends
from orchestrator.telemetry.json_values import finite_or_none
from topo_core.homology.bar_ends import RefinedPeak
from topo_core.homology.barcodes import Bar, Barcode, BarcodeMethod, barcode
from topo_core.homology.persistent_homology import HomologyBar
from topo_core.homology.to_scores import to_score
from workers.storage.run_store import Damage
from workers.storage.schema import MinimumRecord, PairRecord, SaddleRecord, SimplexRecord

METHODS: tuple[BarcodeMethod, ...] = ("elder", "direct")


@dataclass(frozen=True)
class FailedTask:
    """A task that failed.

    Attributes:
        key: of the task.
        what: title of the task, for people.
        kind: of the failure.
        reason: one sentence.
    """

    key: str
    what: str
    kind: str
    reason: str


@dataclass(frozen=True)
class Landscape:
    """The results of a run. Minima are numbered as in the plan; their losses and all heights are finite.

    Attributes:
        run: name of the run.
        minima, passes, simplices: the records that exist, by number, pair and vertices.
        counts: numbers of pairs.
        minima_expected, simplices_expected: numbers in the plan.
        max_index: highest index of a barcode that the plan asks for.
        failures: tasks that failed, and results that are not finite numbers.
        damage: objects of the store that cannot be read.
        tolerance: largest error of a bar that the pair rule accepts, in units of the loss; 0 if it is not
            adaptive.
        saddles: the records of the saddle tasks, by pair. ``passes`` has the paths after these
            tasks, unless ``reduce.heights`` is ``paper``.
        as_optimised: the records of the same paths before their saddle tasks.
        saddles_expected: number of saddle tasks in the plan; an upper bound while paths are missing.
        saddles_done: number of them that are complete.
        peaks: the stationary points at the highest points of these paths, by pair.
        classes: returns the class of symmetric copies of each minimum, or None if copies cannot be
            recognised. It may read weights, so it is called only when needed.
    """

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
    saddles: Mapping[Pair, SaddleRecord] = field(default_factory=dict)
    as_optimised: Mapping[Pair, PairRecord] = field(default_factory=dict)
    saddles_expected: int = 0
    saddles_done: int = 0
    peaks: Mapping[Pair, RefinedPeak] = field(default_factory=dict)
    classes: Callable[[], Mapping[int, int] | None] = lambda: None

    @property
    def complete(self) -> bool:
        """Whether all tasks of the plan are complete and none has failed."""
        return (
            len(self.minima) == self.minima_expected
            and self.counts.open == 0
            and not self.failures
            and len(self.simplices) == self.simplices_expected
            and self.saddles_done == self.saddles_expected
        )

    @cached_property
    def losses(self) -> dict[int, float]:
        """The losses of the minima, by number."""
        return {index: record.loss for index, record in sorted(self.minima.items())}

    @cached_property
    def heights(self) -> dict[Pair, float]:
        """The heights of the passes whose two minima are finished.

        The minima belong to the path, so no height is below their losses.
        """
        return {
            pair: max(record.height, *(self.losses[end] for end in pair))
            for pair, record in sorted(self.passes.items())
            if pair[0] in self.minima and pair[1] in self.minima
        }

    @cached_property
    def undecided(self) -> OpenBounds:
        """What paths that were not run could still change in the barcode."""
        return open_bounds(self.losses, self.heights, self.minima_expected, self.tolerance)

    @cached_property
    def barcodes(self) -> dict[str, Barcode]:
        """The barcodes of index 0, by rule: `elder` and `direct`."""
        return {method: barcode(self.losses, self.heights, method) for method in METHODS}

    @cached_property
    def all_barcodes(self) -> dict[str, Barcode]:
        """All barcodes of index 0 that can be computed, by name.

        `elder` and `direct` are the barcodes of paths by the two rules, `saddles` is that of verified saddles
        alone, and `quotient` that of classes of copies; the last two use the elder rule.
        """
        return {
            **self.barcodes,
            **({"saddles": self.verified.barcode} if self.verified else {}),
            **({"quotient": self.copies.quotient.barcode} if self.copies else {}),
        }

    @cached_property
    def to_scores(self) -> dict[str, float]:
        """The scores of index 0, by rule: `elder` and `direct`."""
        return {method: to_score(bars) for method, bars in self.barcodes.items()}

    @cached_property
    def assessment(self) -> Assessment | None:
        """The accuracy of the elder barcode of index 0; None without minima."""
        return assess(self.losses, self.heights, self.passes) if self.minima else None

    @cached_property
    def homology(self) -> SimplexHomology | None:
        """The barcodes of optimised simplices; None if the run does not ask for them, or without minima."""
        if not self.max_index or not self.minima:
            return None
        return simplex_homology(self.losses, self.heights, self.simplices, self.max_index)

    @cached_property
    def cost(self) -> tuple[CostRow, ...]:
        """The computing cost of each kind of work."""
        return cost_of(
            self.minima.values(),
            self.passes.values(),
            self.simplices.values(),
            self.saddles.values(),
        )

    @cached_property
    def unlisted_ends(self) -> tuple[UnlistedEnd, ...]:
        """Ends of descents from saddles at which the run has no minimum, the lowest first."""
        return unlisted_ends(self.saddles.values(), self.losses.values())

    @cached_property
    def verdicts(self) -> Verdicts | None:
        """The verdicts of the minima; None without minima."""
        return verdicts_of(self.minima.values()) if self.minima else None

    @cached_property
    def verified(self) -> VerifiedBarcode | None:
        """The barcode of verified saddles; None if no peak was followed."""
        if not self.peaks:
            return None
        return verified_barcode(self.losses, self.heights, self.barcodes["elder"], self.peaks)

    @cached_property
    def copies(self) -> Copies | None:
        """The barcode of classes of copies; None if copies cannot be recognised, or without minima."""
        classes = self.classes() if self.minima else None
        return None if classes is None else copies_of(self.losses, self.heights, classes)

    def to_json(self) -> dict[str, Any]:
        """The output of `toscore reduce --json`; infinite numbers are null."""
        return {
            "run": self.run,
            "complete": self.complete,
            "minima": [_minimum_json(i, record) for i, record in sorted(self.minima.items())],
            **({"verdicts": self.verdicts.to_json()} if self.verdicts else {}),
            "saddles": {"total": self.saddles_expected, "done": self.saddles_done},
            "pairs": {
                "total": self.counts.total,
                "done": self.counts.done,
                "skipped": self.counts.skipped,
                "failed": self.counts.failed,
            },
            "heights": [
                {
                    "i": pair[0],
                    "j": pair[1],
                    "height": self.heights.get(pair, record.height),
                    "outcome": record.outcome,
                }
                for pair, record in sorted(self.passes.items())
            ],
            **self._barcodes_json(),
            "undecided": self.undecided.to_json(),
            **(self.assessment.to_json() if self.assessment else {}),
            **({"higher_index": self.homology.to_json()} if self.homology else {}),
            **({"verified": self.verified.to_json()} if self.verified else {}),
            **({"quotient": self.copies.to_json()} if self.copies else {}),
            "failures": [
                {"key": f.key, "task": f.what, "kind": f.kind, "reason": f.reason}
                for f in self.failures
            ],
            "damaged": [{"object": d.name, "reason": d.reason} for d in self.damage],
        }

    def _barcodes_json(self) -> dict[str, Any]:
        """Bars, scores, and numbers of bars of zero length, by index and, for index 0, by rule."""
        higher = self.homology.barcodes if self.homology else {}
        return {
            "barcodes": {
                "0": {m: [_bar_json(bar) for bar in b.bars] for m, b in self.barcodes.items()},
                **{str(i): [_homology_bar_json(bar) for bar in b.bars] for i, b in higher.items()},
            },
            "to_score": {
                "0": {m: finite_or_none(score) for m, score in self.to_scores.items()},
                **{str(i): finite_or_none(to_score(b)) for i, b in higher.items()},
            },
            "bars_of_no_length": {
                "0": {m: b.zero_length for m, b in self.barcodes.items()},
                **{str(i): b.zero_length for i, b in higher.items()},
            },
        }


def _minimum_json(index: int, record: MinimumRecord) -> dict[str, Any]:
    return {
        "id": index,
        "loss": record.loss,
        "test_loss": finite_or_none(record.test_loss),
        "accuracy": finite_or_none(record.accuracy),
        "test_accuracy": finite_or_none(record.test_accuracy),
        "gradient_norm": finite_or_none(record.gradient_norm),
        "epochs": record.epochs,
        "stop_reason": record.stop_reason,
        "seconds": record.seconds,
        "verdict": record.verdict or None,
        "verdict_reason": record.verdict_reason or None,
        "gradient_tolerance": finite_or_none(record.gradient_tolerance),
        "eigenvalues": [finite_or_none(value) for value in record.eigenvalues],
        "eigenvalue_bounds": [finite_or_none(bound) for bound in record.eigenvalue_bounds],
        "zero_modes": record.zero_modes,
        "symmetry_modes": record.symmetry_modes,
    }


def _bar_json(bar: Bar) -> dict[str, Any]:
    return {
        "birth": bar.birth,
        "death": finite_or_none(bar.death),
        "minimum": bar.minimum,
        "saddle": list(bar.saddle) if bar.saddle else None,
    }


def _homology_bar_json(bar: HomologyBar) -> dict[str, Any]:
    return {
        "birth": bar.birth,
        "death": finite_or_none(bar.death),
        "born": list(bar.born),
        "killed": list(bar.killed) if bar.killed else None,
    }
