"""Objects as files of a folder, each whole or not there at all, also when a writer is killed.

A file is written under a hidden name, forced to disk and renamed into place; then its folder is forced
to disk, because a rename survives a power cut only from then on. While it writes, a writer holds a lock
on its hidden file, which distinguishes the file of a living writer from one that a killed writer left.
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
"""A lock is held for one small write. If it is held longer, its holder is stopped or its disk hangs."""

_ATTEMPTS = 20
"""How often others may remove our empty folder, or our hidden file while it is not locked."""


class FolderObjects:
    """Objects as files of a folder, which is made when the first object is published."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()

    @property
    def url(self) -> str:
        return str(self._folder)

    def check_writable(self) -> None:
        """Writes and removes a file in the folder, or where the folder would be made."""
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
                # An unreadable folder is not an empty one: all of it would be computed again.
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
            # Half a million emptied folders of checkpoints would make every listing slow.
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
                raise Conflict(f"{name} in {self._folder} was changed by somebody else.")
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
        """Hold the lock of the folder, so that no other process writes between a read and a write."""
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
        """Raise errors of writing as the exceptions of `Objects`."""
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
"""Answers of file systems that cannot force a folder to disk."""


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
    """Make a folder and its parents so that they survive a power cut."""
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
    except FileNotFoundError:  # emptied and removed by another process
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)


def _write(part: Path, data: bytes) -> None:
    """A locked file with the data, on disk; removed again if that fails."""
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
    """Remove a hidden file that nobody holds a lock on.

    A living writer without the lock (it has just opened the file, or is about to rename it) writes anew.
    """
    with open(part, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        part.unlink()
