"""What the ends of bars are: verified saddles, kinks, heights attained on paths, or no barrier at all.

A bar of paths ends at the highest loss on a path. The end is a *saddle* where the highest point of a
path between two minima of the run is a verified stationary point of index 1, and this path connects
the minimum of the bar with a lower one. The path is the one that was led over saddles
(``topo_core.paths.pass_refinement``), or the two descents from the saddle where both end at minima
of the run. Where the search from the peak ended at a kink of the loss, the end is a *kink*. If the path
does not rise above the minimum of the bar, there is *no barrier*: the bar ends at its own minimum, and no
path can be lower. In every other case the end is *attained*: the height of a path, and an upper bound.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from topo_core.homology.barcodes import Bar, Barcode
from topo_core.homology.minimum_graphs import Minimum, Pair, checked_graph, merges
from topo_core.homology.transition_networks import Transition, TransitionNetwork

_SAME = 1e-6
"""Length of a bar, relative to its death, up to which it has no length: the rounding of float32."""


class EndKind(Enum):
    """What the end of a bar is."""

    SADDLE = "saddle"
    KINK = "kink"
    ATTAINED = "attained"
    NO_BARRIER = "no barrier"


@dataclass(frozen=True)
class RefinedPeak:
    """Where following the peak of a path led.

    Attributes:
        verdict: ``saddle`` for a stationary point whose index is 1, its sign settled by error bounds;
            ``kink``; ``no barrier`` if an end of the path is its highest point; or another verdict.
        loss: at the point.
        gradient_norm: at the point.
        eigenvalues: the lowest ones of the Hessian, increasing.
        bounds: of each of them, how far it may be off.
        ends: two minima that a path connects whose highest point is this point: the ends of the path
            that was led over it, else the minima at which its two descents end; None where one of them
            is not known.
    """

    verdict: str
    loss: float
    gradient_norm: float
    eigenvalues: Sequence[float]
    bounds: Sequence[float]
    ends: Pair | None


@dataclass(frozen=True)
class BarEnd:
    """What the finite bar of a minimum ends at.

    Attributes:
        minimum: whose bar it is.
        kind: of its end.
        path: the pair whose path has the height; None for a bar that does not end.
        peak: where the peak of that path led; None where it was not followed.
        reason: one sentence.
    """

    minimum: Minimum
    kind: EndKind
    path: Pair
    peak: RefinedPeak | None
    reason: str


def transition_network_of(
    losses: Mapping[Minimum, float], peaks: Mapping[Pair, RefinedPeak]
) -> TransitionNetwork:
    """The transition network of verified saddles.

    Args:
        losses: of the minima.
        peaks: of the paths whose peaks were followed, by pair. Those that are no saddles between two
            known minima are left out.
    """
    return TransitionNetwork(
        losses,
        [
            Transition(pair, peak.loss, peak.ends)
            for pair, peak in sorted(peaks.items())
            if peak.verdict == EndKind.SADDLE.value
            and peak.ends is not None
            and set(peak.ends) <= set(losses)
        ],
    )


def bar_ends(
    losses: Mapping[Minimum, float],
    heights: Mapping[Pair, float],
    bars: Barcode,
    peaks: Mapping[Pair, RefinedPeak],
    tolerance: float,
) -> list[BarEnd]:
    """What the finite bars of an elder barcode of paths end at, in their order.

    Args:
        losses: of the minima.
        heights: of the passes.
        bars: their elder barcode.
        peaks: as for ``transition_network_of``.
        tolerance: share of a bar's length by which its saddle may be higher than its path.
    """
    basins = _Basins(losses, heights)
    return [
        _end(bar, bar.saddle, basins, peaks.get(bar.saddle), tolerance)
        for bar in bars.finite
        if bar.saddle is not None
    ]


def _end(
    bar: Bar, path: Pair, basins: "_Basins", peak: RefinedPeak | None, tolerance: float
) -> BarEnd:
    kind = EndKind.ATTAINED
    if peak is None:
        reason = "its path was not led over saddles"
    elif peak.verdict == EndKind.NO_BARRIER.value and bar.length <= _SAME * abs(bar.death):
        kind, reason = EndKind.NO_BARRIER, "no point of its path is higher than its minimum"
    elif peak.verdict == EndKind.NO_BARRIER.value:
        reason = "the highest point of its path is the minimum at its other end"
    elif peak.verdict == EndKind.KINK.value:
        kind, reason = EndKind.KINK, "the highest point of its path is a kink"
    elif peak.verdict != EndKind.SADDLE.value:
        reason = f"the search from the highest point of its path ended at: {peak.verdict}"
    elif peak.ends is None or not set(peak.ends) <= basins.minima:
        reason = "a descent from the saddle ends at a minimum that is not in the run"
    elif not basins.leads_lower(bar, peak.ends):
        i, j = peak.ends
        reason = f"the saddle joins {i} and {j}, which does not lead lower from {bar.minimum}"
    elif peak.loss > bar.death + tolerance * bar.length:
        reason = f"the saddle, at {peak.loss:.6g}, is higher than the path"
    else:
        kind = EndKind.SADDLE
        reason = "stationary, of index 1, and it joins the two basins"
    return BarEnd(bar.minimum, kind, path, peak, reason)


class _Basins:
    """Which minima are connected below a level, by the merges of the elder rule."""

    def __init__(self, losses: Mapping[Minimum, float], heights: Mapping[Pair, float]) -> None:
        graph = checked_graph(losses, heights)
        self.minima = set(graph.ids)
        self._rank = {minimum: rank for rank, minimum in enumerate(graph.ids)}
        self._merge = {merge.younger: merge for merge in merges(graph)}

    def lowest(self, minimum: Minimum, level: float) -> int:
        """Rank of the lowest minimum that is connected to ``minimum`` below ``level``."""
        rank = self._rank[minimum]
        while rank in self._merge and self._merge[rank].height < level:
            rank = self._merge[rank].elder
        return rank

    def leads_lower(self, bar: Bar, ends: Pair) -> bool:
        """Whether ``ends`` join the basin of the bar's minimum, below its death, with a lower one."""
        own = self.lowest(bar.minimum, bar.death)
        sides = {self.lowest(end, bar.death) for end in ends}
        return own in sides and len(sides) == 2 and min(sides) < own


@dataclass(frozen=True)
class BarDifference:
    """A minimum whose bar of paths and bar of verified saddles end differently.

    Attributes:
        minimum: whose bars they are.
        path_death, saddle_death: their deaths; infinite where a bar does not end.
        reason: one sentence.
    """

    minimum: Minimum
    path_death: float
    saddle_death: float
    reason: str


def bar_differences(
    bars: Barcode, ends: Sequence[BarEnd], network: TransitionNetwork, tolerance: float
) -> list[BarDifference]:
    """Where the barcode of paths and that of verified saddles differ.

    Args:
        bars: the elder barcode of paths.
        ends: of its finite bars.
        network: of verified saddles between the same minima.
        tolerance: share of a bar's length up to which two deaths count as equal.
    """
    of_saddles = {bar.minimum: bar for bar in network.barcode.bars}
    end_of = {end.minimum: end for end in ends}
    result = []
    for bar in bars.bars:
        death, other = bar.death, of_saddles[bar.minimum]
        lengths = [end - bar.birth for end in (death, other.death) if math.isfinite(end)]
        if death == other.death or abs(death - other.death) <= tolerance * max(lengths):
            continue
        if math.isinf(other.death):
            reason = _unconnected(end_of[bar.minimum])
        elif death > other.death:
            i, j = other.saddle or (bar.minimum, bar.minimum)
            reason = f"the saddle between {i} and {j} is lower than every path that leads lower"
        else:
            reason = f"a path is lower than every verified saddle: {end_of[bar.minimum].reason}"
        result.append(BarDifference(bar.minimum, death, other.death, reason))
    return result


def _unconnected(end: BarEnd) -> str:
    """Why no verified saddle leads lower from the minimum of a bar that ends on paths."""
    if end.kind is not EndKind.SADDLE or end.peak is None or end.peak.ends is None:
        return f"no verified saddle leads lower: {end.reason}"
    i, j = end.peak.ends
    return (
        f"its bar ends at the verified saddle between {i} and {j}, to which it is connected by a path "
        "that is not verified"
    )
