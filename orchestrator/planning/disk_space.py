"""Estimates the bytes that a run needs in its store, and checks that the disk has enough free space."""

import shutil
from pathlib import Path

from orchestrator.planning.plan import Plan
from orchestrator.run_file.errors import BadRunFile

RECORD_BYTES = 4_000
"""Size of the record of a pair with its profile and history, measured on runs of 100 epochs."""


def path_bytes(plan: Plan, dimension: int) -> int:
    """Bytes that a finished path takes in the store.

    Args:
        plan: of the run.
        dimension: number of parameters of the network.
    """
    points = 0 if plan.run.keep_paths == "none" else plan.path_settings.points
    return RECORD_BYTES + 4 * points * dimension


def refuse_what_cannot_fit(plan: Plan, dimension: int, done: int, location: str) -> None:
    """Check that the disk under the store has enough free space for the remaining paths.

    For an adaptive rule only the smallest number of paths that it may need is counted.

    Args:
        plan: of the run.
        dimension: number of parameters of the network.
        done: number of finished paths.
        location: folder or URL of the run.

    Raises:
        BadRunFile: there is not enough free space.
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
    """Free bytes on the disk of a local store; None for an object store."""
    if "://" in store:
        return None
    folder = Path(store).absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def human_bytes(count: float) -> str:
    """A number of bytes as text, such as 512 B or 1.25 GB; 1 kB is 1000 bytes."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.3g} {unit}"
        count /= 1000
    raise AssertionError
