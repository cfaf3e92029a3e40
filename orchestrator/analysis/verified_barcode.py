"""The barcode of verified saddles, for comparison with the barcode of paths.

A stationary point of index 1 is a transition between two minima if it is the highest point of a path between
them: the path that was led over it, or its two descents. These transitions and the minima form a network.
Every finite bar of the barcode of this network ends at a critical point. Where the two barcodes differ, a
reason is given.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from orchestrator.pair_rules.path_requests import Pair
from orchestrator.telemetry.json_values import finite_or_none
from topo_core.homology.bar_ends import (
    BarDifference,
    BarEnd,
    EndKind,
    RefinedPeak,
    bar_differences,
    bar_ends,
    transition_network_of,
)
from topo_core.homology.barcodes import Barcode
from topo_core.homology.to_scores import to_score
from topo_core.homology.transition_networks import TransitionNetwork

AGREEMENT = 1e-3
"""Difference in height between a path and its saddle, relative to the barrier, up to which they count as
equal.

The height of a converged path is within 1e-2 of its barrier (`PathSettings.convergence_tolerance`), that of
the best ones within 1e-4. A difference of more than a tenth of the former is reported.
"""


@dataclass(frozen=True)
class VerifiedBarcode:
    """The barcode of verified saddles, of index 0 and by the elder rule, compared with that of paths.

    Attributes:
        network: the minima of the run and the verified saddles between them.
        ends: the end of each finite bar of paths, in the order of the bars.
        differences: minima whose two bars, of paths and of saddles, end at different heights.
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
        """The score of the barcode of verified saddles."""
        return to_score(self.barcode)

    def count(self, kind: EndKind) -> int:
        """Number of finite bars of paths whose end is of this kind."""
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
    """Compare an elder barcode of paths with the verified saddles.

    Args:
        losses: of the minima, by number.
        heights: of the passes between them.
        bars: the elder barcode of paths.
        peaks: the stationary points of the paths whose peaks were followed, by pair.
    """
    ends, network = (
        bar_ends(losses, heights, bars, peaks, AGREEMENT),
        transition_network_of(losses, peaks),
    )
    return VerifiedBarcode(
        network, tuple(ends), tuple(bar_differences(bars, ends, network, AGREEMENT))
    )


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
