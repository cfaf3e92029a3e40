"""Decides what runs, watches it, and reduces it to barcodes.

The path of the data, one package a step:

    run_file → planning (pair_rules) → launch → scheduling, cluster → analysis → report

The others: `runs` reads and maintains stores, `studies` executes many runs as one, `dashboard` serves the
live page, `telemetry` shows and logs events, `cli` is the command. From Python, `run(…)` executes a run and
`load_run("runs/demo")` reads one; see `orchestrator.from_python` and `orchestrator.runs.api`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.from_python import Run, load_run, run
    from orchestrator.runs.api import LoadedPath, LoadedRun
    from orchestrator.runs.pathsample import read_pathsample

_HOMES = {
    "LoadedPath": "orchestrator.runs.api",
    "LoadedRun": "orchestrator.runs.api",
    "Run": "orchestrator.from_python",
    "load_run": "orchestrator.from_python",
    "read_pathsample": "orchestrator.runs.pathsample",
    "run": "orchestrator.from_python",
}

__all__ = ["LoadedPath", "LoadedRun", "Run", "load_run", "read_pathsample", "run"]


def __getattr__(name: str) -> Any:
    """Import a name when it is first used: a command uses few of them, and imports take most of its time."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
