"""The barcode of verified saddles beside the barcode of paths.

A stationary point of index 1 is a transition between two minima where it is the highest point of a
path between them: the path that was led over it, or its two descents. These transitions and the minima
form a network with a barcode of its own, whose every finite bar ends at a critical point. Where the two
barcodes differ, a reason is given.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from orchestrator.analysis.json_values import finite_or_none
from orchestrator.pair_rules.orders import Pair
from topo_core.homology.bar_ends import (
    BarDifference,
    BarEnd,
    EndKind,
    RefinedPeak,
    bar_ends,
    differences,
    network_of,
)
from topo_core.homology.barcodes import Barcode
from topo_core.homology.to_scores import to_score
from topo_core.homology.transition_networks import TransitionNetwork

AGREEMENT = 1e-3
"""Share of the barrier up to which a path and its saddle count as equally high.

A converged path ends within 1e-2 of its barrier (`PathSettings.convergence_tolerance`), and the best
ones within 1e-4; a difference of a tenth of the former is worth a sentence.
"""


@dataclass(frozen=True)
class VerifiedBarcode:
    """Of index 0, by the elder rule.

    Attributes:
        network: the minima of the run and the verified saddles between them.
        ends: of each finite bar of paths what it ends at, in the order of the bars.
        differences: minima whose bar of paths and bar of saddles end differently.
    """

    network: TransitionNetwork
    ends: tuple[BarEnd, ...]
    differences: tuple[BarDifference, ...]

    @cached_property
    def barcode(self) -> Barcode:
        """The barcode of verified saddles."""
        return self.network.barcode

    @cached_property
    def to_score(self) -> float:
        """Of the barcode of verified saddles."""
        return to_score(self.barcode)

    def count(self, kind: EndKind) -> int:
        """How many finite bars of paths end at ends of this kind."""
        return sum(end.kind is kind for end in self.ends)

    def to_json(self) -> dict[str, Any]:
        """The key `verified` of `reduce --json`; infinite numbers are null."""
        return {
            "bar_ends": [_end_json(end) for end in self.ends],
            "counts": {kind.value: self.count(kind) for kind in EndKind},
            "transitions": [
                {"path": list(t.saddle), "loss": t.loss, "joins": list(t.ends)}
                for t in self.network.transitions
                if isinstance(t.saddle, tuple)
            ],
            "barcode": [
                {
                    "minimum": bar.minimum,
                    "birth": bar.birth,
                    "death": finite_or_none(bar.death),
                    "joins": list(bar.saddle) if bar.saddle else None,
                }
                for bar in self.barcode.bars
            ],
            "to_score": finite_or_none(self.to_score),
            "differences": [
                {
                    "minimum": difference.minimum,
                    "path_death": finite_or_none(difference.path_death),
                    "saddle_death": finite_or_none(difference.saddle_death),
                    "reason": difference.reason,
                }
                for difference in self.differences
            ],
        }


def verified_barcode(
    losses: Mapping[int, float],
    heights: Mapping[Pair, float],
    bars: Barcode,
    peaks: Mapping[Pair, RefinedPeak],
) -> VerifiedBarcode:
    """What is verified of an elder barcode of paths.

    Args:
        losses: of the minima.
        heights: of the passes between them.
        bars: their elder barcode.
        peaks: of the paths whose peaks were followed, by pair.
    """
    ends, network = bar_ends(losses, heights, bars, peaks, AGREEMENT), network_of(losses, peaks)
    return VerifiedBarcode(network, tuple(ends), tuple(differences(bars, ends, network, AGREEMENT)))


def _end_json(end: BarEnd) -> dict[str, Any]:
    peak = end.peak
    return {
        "minimum": end.minimum,
        "path": list(end.path),
        "kind": end.kind.value,
        "reason": end.reason,
        "peak": peak
        and {
            "verdict": peak.verdict,
            "loss": finite_or_none(peak.loss),
            "gradient_norm": finite_or_none(peak.gradient_norm),
            "eigenvalues": [finite_or_none(value) for value in peak.eigenvalues],
            "eigenvalue_bounds": [finite_or_none(value) for value in peak.bounds],
            "joins": list(peak.ends) if peak.ends else None,
        },
    }
