"""A lock between processes, so that only one of them downloads or unpacks data at a time."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def process_lock(folder: Path, name: str) -> Iterator[None]:
    """Hold the lock `name` in a folder, which is created if it is missing; wait for other holders first.

    The lock is released when its process ends. On a shared file system it also works between nodes. If the
    folder cannot be written to or the file system has no locks, the body is executed without a lock.

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
