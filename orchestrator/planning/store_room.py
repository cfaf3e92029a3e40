"""Bytes that a run needs in its store, and the check that the disk has as many."""

import shutil
from pathlib import Path

from orchestrator.planning.plan import Plan
from orchestrator.run_file.errors import BadRunFile

RECORD_BYTES = 4_000
"""A pair's record with its profile and history, measured on runs of 100 epochs."""


def path_bytes(plan: Plan, dimension: int) -> int:
    """Bytes of a finished path in the store."""
    points = 0 if plan.run.keep_paths == "none" else plan.path_settings.points
    return RECORD_BYTES + 4 * points * dimension


def refuse_what_cannot_fit(plan: Plan, dimension: int, done: int, location: str) -> None:
    """Check that the disk under the store has enough free space for the remaining paths.

    For an adaptive rule only the smallest number of paths that it may need is counted.

    Args:
        plan: of the run.
        dimension: parameters of its network.
        done: how many paths are finished.
        location: folder or URL of the run.

    Raises:
        BadRunFile: it has not.
    """
    free = free_bytes(location)
    needed = max(0, plan.least_pair_count - done) * path_bytes(plan, dimension)
    if free is not None and needed > free:
        raise BadRunFile(
            f"store is {location}, which has {human_bytes(free)} free, and the paths need "
            f"about {human_bytes(needed)}: choose another disk, ask for fewer minima or points, or "
            "set keep_paths to none"
        )


def free_bytes(store: str) -> int | None:
    """Free space under a local store; None for an object store."""
    if "://" in store:
        return None
    folder = Path(store).absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def human_bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.3g} {unit}"
        count /= 1000
    raise AssertionError
