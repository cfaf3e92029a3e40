"""Where a number comes from: versions, revision, machine."""

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
"""Environment variables by which a submitted job and a container image know where their code is from."""

PACKAGES = ("toscore", "torch", "torchvision", "ray", "numpy", "gudhi", "pyarrow")


def provenance(run: RunFile, hardware: Mapping[str, Any]) -> dict[str, Any]:
    """Versions, git revision, machine, time and run file; no names of people, no secrets.

    Args:
        run: what was asked for; two runs with the same `config_hash` were asked for the same.
        hardware: of a worker, as `workers.execution.strategy_probe.hardware` tells it.
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
    """Of all that a run file says, defaults included, in whatever order or notation."""
    text = json.dumps(run.model_dump(mode="json", by_alias=True), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def version(name: str) -> str | None:
    """The version of an installed package."""
    if name == "toscore" and VERSION in os.environ:
        return os.environ[VERSION]
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def revision() -> str | None:
    """The git revision of the work, told by who submitted it or found here."""
    return os.environ.get(REVISION) or _git_revision()


def _git_revision() -> str | None:
    """Of the folder that the command is called in: there lie the user's network and run file."""
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
