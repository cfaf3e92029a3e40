"""A lock between processes: whoever downloads or unpacks data does so alone."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def one_at_a_time(folder: Path, name: str) -> Iterator[None]:
    """Hold the lock `name` in a folder, which is made where it is missing; waits for other holders.

    The lock ends with its process. On a shared file system it holds between nodes. Where the folder cannot be
    written to, nothing can be downloaded either; where the file system has no locks, nobody waits.

    Args:
        folder: where the data go.
        name: what is locked, as a part of a file name.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context((folder / f".{name}.lock").open("w"))
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
