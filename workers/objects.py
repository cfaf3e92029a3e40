"""Named objects of bytes: whole or not there at all, on a folder or an S3-compatible store.

What the rest needs of a store is small: publish a whole object, read it, list, delete, and, for the
lease alone, create if absent and compare-and-swap.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol


class StoreUnreachable(Exception):
    """The store did not answer; waiting may help."""


class StoreFull(Exception):
    """There is no room; making room helps."""


class NotWritable(Exception):
    """The store refuses to be written to; another place or other rights help."""


class NotFound(Exception):
    """No object of that name."""


class AlreadyExists(Exception):
    """Somebody was first to create the object."""


class Conflict(Exception):
    """The object is no longer the one that was read."""


@dataclass(frozen=True)
class ObjectInfo:
    name: str
    size: int


class Objects(Protocol):
    """Raw objects; names are relative paths with forward slashes."""

    @property
    def url(self) -> str: ...

    def check_writable(self) -> None:
        """Raises NotWritable, StoreFull or StoreUnreachable if nothing can be published."""

    def put(self, name: str, data: bytes) -> None:
        """Publish a whole object; readers see the old one or the new one, never a part."""

    def get(self, name: str) -> bytes: ...

    def list(self, prefix: str = "") -> list[ObjectInfo]:
        """Objects below a folder, by name."""

    def delete(self, name: str) -> None:
        """Remove an object; removing what is not there is no error."""

    def create(self, name: str, data: bytes) -> str:
        """Publish only if absent; returns a version for `swap`."""

    def swap(self, name: str, data: bytes, version: str) -> str:
        """Replace the object if it is still that version."""

    def read_versioned(self, name: str) -> tuple[bytes, str]: ...


def open_objects(location: str) -> Objects:
    """The objects at a folder or at `s3://bucket/prefix`.

    Raises:
        NotWritable: the location means nothing.
    """
    if location.startswith("s3://"):
        from workers.s3 import S3Objects

        return S3Objects(location)
    if "://" in location:
        raise NotWritable(f"{location} is neither a folder nor s3://bucket/prefix")
    return LocalObjects(Path(location))


_PART = ".part-"


class LocalObjects:
    """Objects as files of a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()

    @property
    def url(self) -> str:
        return str(self._folder)

    def check_writable(self) -> None:
        probe = ".writable-" + secrets.token_hex(4)
        self.put(probe, b"?")
        self.delete(probe)

    def put(self, name: str, data: bytes) -> None:
        path = self._path(name)
        part = path.with_name(f"{_PART}{secrets.token_hex(8)}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(part, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
            _sync_folder(path.parent)
        except OSError as error:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise _translated(error, path) from error

    def get(self, name: str) -> bytes:
        path = self._path(name)
        try:
            return path.read_bytes()
        except FileNotFoundError:
            raise NotFound(name) from None
        except OSError as error:
            raise _translated(error, path) from error

    def list(self, prefix: str = "") -> list[ObjectInfo]:
        found = []
        for folder, _, files in os.walk(self._path(prefix) if prefix else self._folder):
            for file in files:
                if file.startswith((_PART, ".lock", ".writable-")):
                    continue
                path = Path(folder, file)
                with contextlib.suppress(FileNotFoundError):  # deleted while we look
                    name = path.relative_to(self._folder).as_posix()
                    found.append(ObjectInfo(name, path.stat().st_size))
        return sorted(found, key=lambda info: info.name)

    def delete(self, name: str) -> None:
        path = self._path(name)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise _translated(error, path) from error

    def create(self, name: str, data: bytes) -> str:
        with self._locked():
            if self._path(name).exists():
                raise AlreadyExists(name)
            self.put(name, data)
        return _version(data)

    def swap(self, name: str, data: bytes, version: str) -> str:
        with self._locked():
            try:
                current = _version(self.get(name))
            except NotFound:
                raise Conflict(name) from None
            if current != version:
                raise Conflict(name)
            self.put(name, data)
        return _version(data)

    def read_versioned(self, name: str) -> tuple[bytes, str]:
        data = self.get(name)
        return data, _version(data)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Let no other process of this machine in between the look and the write."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            lock = open(self._folder / ".lock", "ab")
        except OSError as error:
            raise _translated(error, self._folder) from error
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _path(self, name: str) -> Path:
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or not pure.parts:
            raise ValueError(f"{name!r} is no name of an object")
        return self._folder / pure


def _version(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _sync_folder(folder: Path) -> None:
    """A rename survives a power cut only once its folder is on disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _translated(error: OSError, path: Path) -> Exception:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StoreFull(f"The disk under {path.parent} is full: make room.")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
        return NotWritable(
            f"{path.parent} cannot be written to ({error.strerror}): choose another folder."
        )
    return StoreUnreachable(f"{path.parent} did not answer ({error.strerror}).")
