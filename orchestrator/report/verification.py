"""What `toscore verify` says."""

from rich.console import Group, RenderableType
from rich.text import Text

from orchestrator.runs.verification import Verification


def verification_view(found: Verification) -> RenderableType:
    """One line for what was checked, and one for each thing that is wrong."""
    agree = sum(height.agrees for height in found.heights)
    parts: list[RenderableType] = [
        Text(
            f"{found.objects} objects read, {len(found.damage)} damaged or missing; "
            f"{len(found.heights)} heights computed again from their points, {agree} agree."
        )
    ]
    if found.unchecked:
        parts.append(Text(f"{found.unchecked} heights have no points to compute them from."))
    if found.heights and agree == len(found.heights):
        worst = max(found.heights, key=lambda h: abs(h.found - h.stored))
        parts.append(
            Text(
                f"Largest difference {abs(worst.found - worst.stored):.2g}, "
                f"allowed there {worst.allowed:.2g}."
            )
        )
    for damage in found.damage:
        parts.append(Text(f"{damage.reason}; `toscore run` makes it again.", style="red"))
    for height in found.heights:
        if not height.agrees:
            i, j = height.pair
            parts.append(
                Text(
                    f"path {i}–{j}: stored {height.stored:.8g}, computed again {height.found:.8g}, "
                    f"which may differ by {height.allowed:.2g}.",
                    style="red",
                )
            )
    return Group(*parts)
