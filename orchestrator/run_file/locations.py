"""Locations of the files and runs that a run file names.

Locations of checkpoints are relative to the run file that names them. Locations of runs (`store`, `reuse`,
`paths.warm_from`) are relative to the folder in which the command is called. `~` and `$NAME` are expanded in
both.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orchestrator.run_file.errors import BadRunFile
from workers.storage.open_objects import STORES

CHECKPOINT_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
"""Suffixes of the files that are taken from a folder in `minima.from`."""

SHARD_INDEX = ".index.json"
"""End of the name of the file that lists the shards of one checkpoint."""


def resolved(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The values of a run file with expanded locations of runs, and absolute locations of checkpoints.

    Args:
        values: of the file, unchecked: values of a wrong type are returned as they are.
        folder: of the run file.

    Raises:
        BadRunFile: a location cannot be expanded, or a pattern or folder contains no checkpoint.
    """
    expanded = dict(values)
    if isinstance(store := values.get("store"), str):
        expanded["store"] = run_location("store", store)
    if isinstance(reuse := values.get("reuse"), str | list):
        listed = [reuse] if isinstance(reuse, str) else reuse
        expanded["reuse"] = [run_location("reuse", r) if isinstance(r, str) else r for r in listed]
    paths, minima = values.get("paths"), values.get("minima")
    if isinstance(paths, dict) and isinstance(warm := paths.get("warm_from"), str):
        expanded["paths"] = {**paths, "warm_from": run_location("paths.warm_from", warm)}
    if isinstance(minima, dict) and isinstance(named := minima.get("from"), str | list):
        listed = [named] if isinstance(named, str) else named
        files = [file for one in listed for file in _checkpoints(one, folder)]
        minima = expanded["minima"] = {**minima, "from": files}
    if isinstance(minima, dict) and isinstance(restarts := minima.get("restarts"), dict):
        named = restarts.get("from")
        if isinstance(named, str | list):
            listed = [named] if isinstance(named, str) else named
            files = [file for one in listed for file in _checkpoints(one, folder)]
            expanded["minima"] = {**minima, "restarts": {**restarts, "from": files}}
    return expanded


def run_location(key: str, location: str) -> str:
    """A folder or URL with `~` and `$NAME` expanded.

    Raises:
        BadRunFile: the location begins like a URL but is none, its scheme is not known, or it names a
            variable that is not set.
    """
    if location.startswith("file://"):
        raise BadRunFile(f"{key} is {location!r}: write the folder, {location[7:] or '/'}.")
    scheme = location.partition("://")[0]
    if scheme != location and scheme not in STORES:
        known = ", ".join(f"{name}://" for name in STORES if name)
        raise BadRunFile(
            f"{key} is {location!r}; it must be a folder, or begin with one of {known}."
        )
    if match := re.match(r"([A-Za-z][A-Za-z0-9+.-]+):(?!//[^/])", location):
        raise BadRunFile(
            f"{key} is {location!r}, which begins like a URL and names no bucket: write "
            f"{match[1]}://bucket/prefix, or ./{location} for a folder of this name."
        )
    return location if "://" in location else _expanded(key, location)


def _expanded(key: str, location: str) -> str:
    if "\0" in location:
        raise BadRunFile(f"{key} is {location!r}, which holds a NUL character: no file has one.")
    whole = os.path.expandvars(os.path.expanduser(location))
    if match := re.search(r"\$(\w+|\{\w+\})", whole):
        raise BadRunFile(f"{key} is {location!r}, and {match[0]} is not set in the environment.")
    if whole.startswith("~"):
        raise BadRunFile(
            f"{key} is {location!r}, and there is no such home folder: write the whole path."
        )
    return whole


def _checkpoints(named: Any, folder: Path) -> Iterator[Any]:
    """The files of an entry of `minima.from`: the entry itself, or the files of its pattern or folder."""
    if not isinstance(named, str) or "://" in named:
        yield named
        return
    path = folder / _expanded("minima.from", named)
    if path.is_dir():
        yield from _in_folder(named, path)
    elif any(mark in named for mark in "*?[") and not path.exists():
        base = Path(path.anchor) if path.is_absolute() else Path()
        files = [f for f in base.glob(str(path.relative_to(base))) if f.is_file()]
        if not files:
            raise BadRunFile(
                f"minima.from names {named}, which fits no file: it is relative to the run file."
            )
        yield from map(os.path.realpath, sorted(files, key=_in_order))
    else:
        yield os.path.realpath(
            path
        )  # other than Path.resolve, it raises nothing for a circle of links


def _in_folder(named: str, folder: Path) -> Iterator[str]:
    indices = [f for f in folder.iterdir() if f.name.endswith(SHARD_INDEX)]
    files = indices or [f for f in folder.iterdir() if f.suffix in CHECKPOINT_SUFFIXES]
    if not files:
        raise BadRunFile(
            f"minima.from names the folder {named}, which holds no checkpoint: they end with "
            f"{', '.join(CHECKPOINT_SUFFIXES)}, or {SHARD_INDEX} for shards."
        )
    yield from map(os.path.realpath, sorted(files, key=_in_order))


def _in_order(file: Path) -> list[tuple[int, str]]:
    """Sort key of a file that compares numbers in names by value: step-9 comes before step-10."""
    parts = re.findall(r"\d+|\D+", str(file))
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]
