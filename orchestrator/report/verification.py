"""The output of `toscore verify` for a terminal."""

from rich.console import Group, RenderableType
from rich.text import Text

from orchestrator.runs.verification import Verification


def verification_view(result: Verification) -> RenderableType:
    """A summary of the checks, and one line for each damaged object or height that does not agree."""
    agree = sum(height.agrees for height in result.heights)
    parts: list[RenderableType] = [
        Text(
            f"{result.objects} objects read, {len(result.damage)} damaged or missing; "
            f"{len(result.heights)} heights computed again from their points, {agree} agree."
        )
    ]
    if result.unchecked:
        parts.append(
            Text(
                f"{result.unchecked} heights were not computed again, since their points are damaged."
            )
        )
    if result.heights and agree == len(result.heights):
        worst = max(result.heights, key=lambda h: abs(h.recomputed - h.stored))
        parts.append(
            Text(
                f"Largest difference {abs(worst.recomputed - worst.stored):.2g}, "
                f"allowed there {worst.allowed:.2g}."
            )
        )
    for damage in result.damage:
        parts.append(Text(f"{damage.reason}; `toscore run` makes it again.", style="red"))
    for height in result.heights:
        if not height.agrees:
            i, j = height.pair
            parts.append(
                Text(
                    f"path {i}–{j}: stored {height.stored:.8g}, computed again {height.recomputed:.8g}, "
                    f"which may differ by {height.allowed:.2g}.",
                    style="red",
                )
            )
    return Group(*parts)
