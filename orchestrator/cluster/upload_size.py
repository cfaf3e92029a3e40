"""Checks the size of a folder before a submission uploads it."""

import os
from collections import Counter
from pathlib import Path

from orchestrator.run_file.errors import UserError

MOST_BYTES = 200_000_000
"""Largest upload. The head node keeps it in memory and every node unpacks a copy; Ray itself refuses 500
MiB."""


def refuse_large(folder: Path) -> None:
    """Refuse to upload a folder of more than `MOST_BYTES`.

    Files that Ray leaves out do not count: `.git`, virtual environments, and the files that `.gitignore` or
    `.rayignore` name. Private functions of Ray decide which these are. If a release of Ray lacks them,
    nothing is refused here, and Ray applies its own limit.

    Args:
        folder: to be uploaded.

    Raises:
        UserError: the folder is larger; the message names its largest part.
    """
    try:
        from ray._private.ray_constants import get_runtime_env_default_excludes
        from ray._private.runtime_env.packaging import _dir_travel, _get_excludes
    except ImportError:
        return
    parts: Counter[str] = Counter()

    def count(path: Path) -> None:
        if path.is_file():
            parts[path.relative_to(folder).parts[0]] += path.stat().st_size

    folder = folder.absolute()
    excludes = [_get_excludes(folder, get_runtime_env_default_excludes())]
    respected = os.environ.get("RAY_RUNTIME_ENV_IGNORE_GITIGNORE", "0") != "1"
    _dir_travel(folder, excludes, count, include_gitignore=respected)
    if parts.total() <= MOST_BYTES:
        return
    ((largest, size),) = parts.most_common(1)
    raise UserError(
        f"--working-dir {folder} holds {_mb(parts.total())}, {_mb(size)} of them in {largest}; at most "
        f"{_mb(MOST_BYTES)} are uploaded: name it in {folder / '.rayignore'}, or give a smaller folder."
    )


def _mb(size: int) -> str:
    return f"{size / 1e6:.0f} MB"
