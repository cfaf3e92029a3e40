"""The contents of a run's store, read without the code that wrote them, so that runs can be compared."""

import contextlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tests.helpers.command import toscore


def raw_records(run: Path, collection: str) -> list[dict[str, Any]]:
    """Every row of every segment that counts; a task that ran twice appears twice.

    A worker that outlives its driver for a moment may still publish; such a segment is in no commit.
    """
    commits = sorted((run / "log").glob("*.json"))
    if not commits:
        return []
    names = json.loads(commits[-1].read_text())["segments"]
    files = [run / name for name in names if name.startswith(f"records/{collection}/")]
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def times_completed(run: Path) -> Counter[str]:
    """How often each task was completed, by key."""
    return Counter(
        row["key"] for kind in ("minima", "pairs", "simplices") for row in raw_records(run, kind)
    )


def checkpoint_files(run: Path) -> list[Path]:
    """Checkpoints in the store now. Workers delete the folders of tasks that end, also while this looks."""
    files = []
    with contextlib.suppress(FileNotFoundError):
        for file in (run / "checkpoints").glob("*/*.parquet"):
            files.append(file)  # what was listed before a folder vanished is kept
    return files


def checkpoint_epochs(run: Path) -> list[int]:
    """Epochs of the checkpoints that lie in the store now."""
    return [int(file.name.split(".")[0]) for file in checkpoint_files(run)]


def bits(run: Path) -> dict[str, bytes]:
    """Name and bytes of every minimum, path, simplex and saddle; equal for runs with equal results.

    Hidden files are no objects: a worker that is killed while it writes leaves a part of one.
    """
    return {
        f"{folder}/{file.name}": file.read_bytes()
        for folder in ("minima", "paths", "simplices", "saddles")
        for file in (run / folder).glob("[!.]*")
    }


def reduced(run: Path) -> dict[str, Any]:
    """`reduce --json`, without what differs between equal runs."""
    result = json.loads(toscore("reduce", run, "--json").out)
    result.pop("run")
    for minimum in result["minima"]:
        minimum.pop("seconds")
    return dict(result)
