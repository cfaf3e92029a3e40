"""Text on verified saddles and on classes of symmetric copies, for a terminal."""

import math

from rich.text import Text

from orchestrator.analysis.copies import Copies
from orchestrator.analysis.verified_barcode import VerifiedBarcode
from topo_core.homology.bar_ends import EndKind

SHOWN_DIFFERENCES = 5
"""Largest number of differing bars that are listed, so that they and the barcode fit on a screen."""

_KINDS = {
    EndKind.SADDLE: ("verified saddle", "verified saddles"),
    EndKind.KINK: ("kink of the loss", "kinks of the loss"),
    EndKind.NO_BARRIER: ("minimum without a barrier", "minima without a barrier"),
    EndKind.ATTAINED: ("height attained on a path", "heights attained on paths"),
}


def verified_lines(verified: VerifiedBarcode) -> list[Text]:
    """Lines on the ends of finite bars, the TO-score of verified saddles, and differing bars."""
    counts = [
        f"{count} {one if count == 1 else many}"
        for kind, (one, many) in _KINDS.items()
        if (count := verified.count(kind))
    ]
    ends = f"Ends of the {len(verified.ends)} finite bars: {', '.join(counts) or 'none'}."
    if math.isfinite(verified.to_score):
        ends += f" TO-score of verified saddles alone: {verified.to_score:.4g}."
    lines = [Text(ends)]
    both_end = [d for d in verified.differences if math.isfinite(d.saddle_death)]
    for difference in both_end[:SHOWN_DIFFERENCES]:
        lines.append(
            Text(
                f"Minimum {difference.minimum}: its bar ends at {_loss(difference.path_death)} by paths "
                f"and at {_loss(difference.saddle_death)} by saddles: {difference.reason}."
            )
        )
    more = len(both_end) - SHOWN_DIFFERENCES
    if more > 0:
        lines.append(Text(f"{more} more bars differ; `reduce --json` lists them."))
    return [*lines, *_not_connected(verified)]


def _not_connected(verified: VerifiedBarcode) -> list[Text]:
    """One line for each reason why the bars of some minima end on a path but at no verified saddle."""
    minima_by_reason: dict[str, list[int]] = {}
    for difference in verified.differences:
        if math.isinf(difference.saddle_death):
            minima_by_reason.setdefault(difference.reason, []).append(difference.minimum)
    return [
        Text(
            f"{'Minima' if len(minima) > 1 else 'Minimum'} {', '.join(map(str, sorted(minima)))}: "
            f"{reason}."
        )
        for reason, minima in minima_by_reason.items()
    ]


def copies_line(copies: Copies) -> Text:
    """A line on the TO-score of the quotient by the symmetries of the network."""
    classes = copies.classes
    count = sum(map(len, classes))
    score = _score(copies.to_score, "some classes are not connected yet")
    return Text(
        f"On the quotient by the symmetries of the network, where copies of a minimum are one point: "
        f"{len(classes)} classes of {count} minima, TO-score {score}. The bars above are those on the "
        "parameter space."
    )


def _score(score: float, otherwise: str) -> str:
    return f"{score:.4g}" if math.isfinite(score) else f"infinite: {otherwise}"


def _loss(death: float) -> str:
    return f"{death:.4g}" if math.isfinite(death) else "∞"
