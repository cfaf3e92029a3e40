"""Where a number comes from: versions, revision, machine."""

import importlib.metadata
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import torch

VERSION, REVISION = "TOSCORE_VERSION", "TOSCORE_REVISION"
"""Environment variables by which a submitted job and a container image know where their code is from."""

PACKAGES = ("toscore", "torch", "torchvision", "ray", "numpy", "gudhi", "pyarrow")


def provenance() -> dict[str, Any]:
    """Versions, git revision of the working folder, machine and time; no names of people, no secrets."""
    return {
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": sys.version.split()[0],
        "packages": {name: version(name) for name in PACKAGES},
        "git_revision": revision(),
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cpus": os.cpu_count(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


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
