"""Verified saddles and classes of copies, in words for a terminal."""

import math

from rich.text import Text

from orchestrator.analysis.copies import Copies
from orchestrator.analysis.verified_barcode import VerifiedBarcode
from topo_core.homology.bar_ends import EndKind

SHOWN_DIFFERENCES = 5
"""Of the minima whose two bars differ: a screen holds no more beside the barcode."""

_KINDS = {
    EndKind.SADDLE: "at verified saddles",
    EndKind.KINK: "at kinks",
    EndKind.ATTAINED: "at heights that are only attained on a path",
}


def verified_lines(verified: VerifiedBarcode) -> list[Text]:
    """What the finite bars end at, the score of verified saddles, and where the two barcodes differ."""
    counts = [
        f"{verified.count(kind)} {words}" for kind, words in _KINDS.items() if verified.count(kind)
    ]
    score = _score(verified.to_score, "some minima are not connected by verified saddles")
    lines = [
        Text(
            f"Of {len(verified.ends)} finite bars end {', '.join(counts) or 'none'}. TO-score of "
            f"verified saddles alone: {score}."
        )
    ]
    for difference in verified.differences[:SHOWN_DIFFERENCES]:
        lines.append(
            Text(
                f"Minimum {difference.minimum}: its bar ends at {_loss(difference.path_death)} on paths "
                f"and at {_loss(difference.saddle_death)} by saddles: {difference.reason}."
            )
        )
    more = len(verified.differences) - SHOWN_DIFFERENCES
    if more > 0:
        lines.append(Text(f"{more} more bars differ; `reduce --json` lists them."))
    return lines


def copies_line(copies: Copies) -> Text:
    """The score on the quotient by the symmetries of the network."""
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
