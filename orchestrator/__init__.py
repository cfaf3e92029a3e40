"""Plans the tasks of a run, schedules and monitors them, and computes barcodes from the results.

Data pass through these packages and modules in this order:

    run_file → planning (pair_rules) → launch → scheduling, cluster → analysis → report

The other packages: `runs` reads and maintains stores, `studies` executes many runs as one, `dashboard` serves
the live page, `telemetry` shows and logs events, `cli` is the command. From Python, `run(…)` executes a run
and `load_run("runs/demo")` reads one; see `orchestrator.from_python` and `orchestrator.runs.api`.
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
    """Import a public name when it is first used: imports take most of the time of a short command."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
