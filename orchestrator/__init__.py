"""Decides what runs, watches it, and reduces it to barcodes.

The road of the data, one file a step:

    config → identify → plan → launch (lease) → drive (state, rounds, executor) → store → reduce → report

Beside it: `submit` and `stopping` for drivers elsewhere, `progress` and `live` for who watches, `verify`,
`reuse` and `tidy` for stores, `studies` for many runs as one. From Python, `load_run("runs/demo")` reads a
run; see `orchestrator.runs.api`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.runs.api import LoadedPath, LoadedRun, load_run

__all__ = ["LoadedPath", "LoadedRun", "load_run"]


def __getattr__(name: str) -> Any:
    """Imported when asked for: most of a command's time would go into what it does not use."""
    if name in __all__:
        import orchestrator.runs.api

        return getattr(orchestrator.runs.api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
