"""Objects as files in a folder. A file exists completely or not at all, even if its writer is killed.

A writer writes a file under a hidden name, flushes it to disk with `fsync`, and renames it. Then it flushes
the folder, because only then does the rename survive a power failure. While it writes, the writer holds a
lock on its hidden file. The lock distinguishes the file of a running writer from one that a killed writer has
left.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

from workers.storage.objects import (
    AlreadyExists,
    Conflict,
    NotFound,
    NotWritable,
    ObjectInfo,
    StoreFull,
    StoreUnreachable,
    checked_name,
)

_HIDDEN = ".toscore-"
_PART = _HIDDEN + "part-"
_LOCK = _HIDDEN + "lock"

LOCK_SECONDS = 10.0
"""Time in seconds to wait for the lock of a folder. It is held for one small write only, so a longer wait
means that the holder is suspended or its disk does not respond."""

_ATTEMPTS = 20
"""Attempts to write a file: one fails if another process removes the folder while it is empty, or the hidden
file before it is locked."""


class FolderObjects:
    """Objects as files in a folder, which is created when the first object is published; implements
    `Objects`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()

    @property
    def url(self) -> str:
        return str(self._folder)

    def check_writable(self) -> None:
        """Check the access by writing and removing a file in the folder, or in its nearest existing
        parent."""
        existing = self._folder
        while not existing.exists() and existing != existing.parent:
            existing = existing.parent
        with self._translated(self._folder):
            probe = existing / f"{_PART}{secrets.token_hex(8)}"
            _write(probe, b"?")
            probe.unlink()

    def put(self, name: str, data: bytes) -> None:
        path = self._path(name)
        with self._translated(path.parent):
            for attempt in range(_ATTEMPTS):
                try:
                    _make_folder(path.parent)
                    part = path.with_name(f"{_PART}{secrets.token_hex(8)}")
                    _write(part, data)
                    _rename(part, path)
                    break
                except FileNotFoundError:
                    if attempt == _ATTEMPTS - 1:
                        raise
            _sync_folder(path.parent)

    def get(self, name: str) -> bytes:
        path = self._path(name)
        try:
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound(f"There is no {name} in {self._folder}.") from None
        except OSError as error:
            raise _unreachable(error, path) from error

    def list(self, prefix: str = "") -> list[ObjectInfo]:
        start = self._path(prefix) if prefix else self._folder
        objects: list[ObjectInfo] = []
        folders = [(str(start), "" if not prefix else f"{prefix.rstrip('/')}/")]
        linked = {os.path.realpath(start)}
        while folders:
            folder, name = folders.pop()
            try:
                with os.scandir(folder) as entries:
                    for entry in entries:
                        if entry.name.startswith(_HIDDEN):
                            continue
                        if entry.is_dir():
                            if entry.is_symlink():
                                if (target := os.path.realpath(entry.path)) in linked:
                                    continue  # links in a circle
                                linked.add(target)
                            folders.append((entry.path, f"{name}{entry.name}/"))
                            continue
                        with contextlib.suppress(FileNotFoundError):  # deleted after the listing
                            size = entry.stat().st_size
                            objects.append(ObjectInfo(f"{name}{entry.name}", size))
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                # An unreadable folder must not count as empty, or all its results would be computed again.
                raise _unreachable(error, Path(folder)) from error
        return sorted(objects, key=lambda info: info.name)

    def delete(self, name: str) -> None:
        path = self._path(name)
        with self._translated(path.parent):
            try:
                path.unlink()
            except (FileNotFoundError, NotADirectoryError):
                return
        if path.parent != self._folder:
            # Remove the folder if it is empty: half a million empty folders of checkpoints make listings
            # slow.
            with contextlib.suppress(OSError):
                path.parent.rmdir()

    def create(self, name: str, data: bytes) -> str:
        with self._locked():
            if self._path(name).exists():
                raise AlreadyExists(f"{name} exists already in {self._folder}.")
            self.put(name, data)
        return _version(data)

    def swap(self, name: str, data: bytes, version: str) -> str:
        with self._locked():
            try:
                current = _version(self.get(name))
            except NotFound:
                current = ""
            if current != version:
                raise Conflict(f"{name} in {self._folder} was changed by another process.")
            self.put(name, data)
        return _version(data)

    def read_versioned(self, name: str) -> tuple[bytes, str]:
        data = self.get(name)
        return data, _version(data)

    def sweep(self) -> None:
        for folder, _, files in os.walk(self._folder):
            for file in files:
                if file.startswith(_PART):
                    with contextlib.suppress(OSError):
                        _remove_if_left(Path(folder, file))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock of the folder, so that no other process writes between a read and a write.

        Raises:
            NotWritable: the file system has no locks, or the folder cannot be written to.
            StoreUnreachable: another process holds the lock for longer than `LOCK_SECONDS`.
        """
        deadline = time.monotonic() + LOCK_SECONDS
        with self._translated(self._folder):
            _make_folder(self._folder)
            lock = open(self._folder / _LOCK, "ab")  # noqa: SIM115 - closed below, once locked
        with lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise StoreUnreachable(
                            f"{lock.name} has been locked for {LOCK_SECONDS:.0f} s: end or wake the "
                            "process that holds it."
                        ) from None
                    time.sleep(0.005)
                except OSError as error:
                    if error.errno in _NO_LOCKS:
                        raise _without_locks(self._folder) from error
                    raise _unreachable(error, self._folder) from error
            yield

    def _path(self, name: str) -> Path:
        return self._folder / checked_name(name)

    @staticmethod
    @contextlib.contextmanager
    def _translated(path: Path) -> Iterator[None]:
        """Translate an `OSError` of a write into the exceptions of `Objects`."""
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise StoreFull(
                    f"There is no space left in {path} ({error.strerror}): free some space and run again."
                ) from error
            if error.errno in _NO_LOCKS:
                raise _without_locks(path) from error
            if error.errno in _REFUSALS:
                raise NotWritable(
                    f"{path} cannot be written to ({error.strerror}): choose another folder or "
                    "change its rights."
                ) from error
            raise _unreachable(error, path) from error


_REFUSALS = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.EISDIR,
    errno.ENAMETOOLONG,
)


_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)
_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)
"""Error numbers of file systems that cannot flush a folder to disk."""


def _without_locks(path: Path) -> NotWritable:
    return NotWritable(
        f"{path} is on a file system with no file locks (flock), which keep two drivers apart: mount it "
        "with locks (Lustre: -o flock), or choose another folder."
    )


def _unreachable(error: OSError, path: Path) -> StoreUnreachable:
    return StoreUnreachable(f"{path} did not answer ({error.strerror}): check that it is mounted.")


def _version(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _make_folder(folder: Path) -> None:
    """Create a folder and its parents, and flush them to disk so that they survive a power failure."""
    if folder.is_dir():
        return
    if folder != folder.parent:
        _make_folder(folder.parent)
    with contextlib.suppress(FileExistsError):
        folder.mkdir()
        _sync_folder(folder.parent)
    if not folder.is_dir() and folder.exists():
        raise NotADirectoryError(errno.ENOTDIR, f"{folder} is a file")


def _sync_folder(folder: Path) -> None:
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:  # another process has removed the folder, because it was empty
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)


def _write(part: Path, data: bytes) -> None:
    """Write data to a new file and flush it to disk, holding a lock on it; the file is removed after an
    error."""
    try:
        with open(part, "xb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        _forget(part)
        raise


def _rename(part: Path, path: Path) -> None:
    try:
        os.replace(part, path)
    except OSError:
        _forget(part)
        raise


def _forget(part: Path) -> None:
    with contextlib.suppress(OSError):
        part.unlink()


def _remove_if_left(part: Path) -> None:
    """Remove a hidden file on which no process holds a lock.

    If its writer is still running (it has just opened the file, or is about to rename it), it writes again.

    Raises:
        OSError: a process holds the lock, or the file cannot be removed.
    """
    with open(part, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        part.unlink()
