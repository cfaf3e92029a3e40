"""Run files of tests, and runs of them in this process."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.helpers.command import toscore


def write_run_file(folder: Path, name: str, settings: Mapping[str, Any], **changes: Any) -> Path:
    """Write NAME.yaml into a folder; the store of the run is the subfolder `runs`.

    Args:
        folder: of the file.
        name: of the run, and stem of the file.
        settings: keys of the file.
        changes: keys that are added or replace others.
    """
    file = folder / f"{name}.yaml"
    whole = {"name": name, "store": str(folder / "runs"), **settings, **changes}
    file.write_text(json.dumps(whole))
    return file


def finished_run(file: Path) -> Path:
    """Run a file of `write_run_file` to its end in this process; returns the folder of the run."""
    said = toscore("run", file, "--in-process")
    assert said.code == 0, said.err
    return file.parent / "runs" / file.stem
