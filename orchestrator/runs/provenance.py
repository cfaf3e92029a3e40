"""The provenance of results: package versions, git revision, and machine."""

import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from orchestrator.run_file.models import RunFile

VERSION, REVISION = "TOSCORE_VERSION", "TOSCORE_REVISION"
"""Environment variables with the version and git revision of the code. They are set for submitted jobs and in
container images, where neither can be read from the installation."""

PACKAGES = ("toscore", "torch", "torchvision", "ray", "numpy", "gudhi", "pyarrow")
"""Packages whose version can change a result or the format of the store."""


def provenance(run: RunFile, hardware: Mapping[str, Any]) -> dict[str, Any]:
    """Time, package versions, git revision, machine, and hash of the run file. No user names, no secrets.

    Args:
        run: the run file; equal run files have equal `config_hash`.
        hardware: the hardware of a worker, from `workers.execution.strategy_probe.hardware`.
    """
    return {
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": sys.version.split()[0],
        "packages": {name: version(name) for name in PACKAGES},
        "git_revision": revision(),
        "platform": platform.platform(),
        **hardware,
        "config_hash": config_hash(run),
    }


def config_hash(run: RunFile) -> str:
    """SHA-256 of all values of a run file, defaults included, independent of the order of the keys."""
    text = json.dumps(run.model_dump(mode="json", by_alias=True), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def version(name: str) -> str | None:
    """The version of an installed package; None if it is not installed."""
    if name == "toscore" and VERSION in os.environ:
        return os.environ[VERSION]
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def revision() -> str | None:
    """The git revision in the variable `REVISION`, or that of the current folder; None if unknown."""
    return os.environ.get(REVISION) or _git_revision()


def _git_revision() -> str | None:
    """The revision of the current folder, which holds the user's network and run file."""
    try:
        result = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip() or None
