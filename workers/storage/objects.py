"""Named objects of bytes: whole or not there at all, in a folder or in a bucket of an object store.

The interface is small: publish a whole object, read it, list, delete, create
if absent (the commit log, the lease), and compare-and-swap (the lease). Two classes implement `Objects`:

* `folder.FolderObjects`: a file for each object, written under a hidden name, forced to disk, then renamed.
* `buckets.BucketObjects`: one request for each object; conditional requests for the lease and the log.

Every error is one sentence that says what to do.
"""

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Protocol


class StoreUnreachable(Exception):
    """The store did not answer; waiting may help."""


class StoreFull(Exception):
    """There is no space left in the store."""


class NotWritable(Exception):
    """The store refuses access; another location or other permissions are needed."""


class NotFound(Exception):
    """No object of that name."""


class AlreadyExists(Exception):
    """Somebody was first to create the object."""


class Conflict(Exception):
    """The object is no longer the one that was read."""


class Fenced(Exception):
    """Another driver has taken the run over."""


@dataclass(frozen=True)
class ObjectInfo:
    """An object in a listing; `size` in bytes."""

    name: str
    size: int


class Objects(Protocol):
    """Raw objects; names are relative paths with forward slashes, all below one root.

    Any call may raise StoreUnreachable; any call that writes, StoreFull or NotWritable; a name that
    points outside the root, ValueError.
    """

    @property
    def url(self) -> str:
        """The location that `open_objects` was given, for messages."""

    def check_writable(self) -> None:
        """Raises NotWritable, StoreFull or StoreUnreachable if nothing can be published.

        Leaves nothing behind.
        """

    def put(self, name: str, data: bytes) -> None:
        """Publish a whole object; readers see the old one or the new one, never a part."""

    def get(self, name: str) -> bytes:
        """The bytes of an object. Raises NotFound."""

    def list(self, prefix: str = "") -> list[ObjectInfo]:
        """Objects below a folder, sorted by name; a missing folder holds none."""

    def delete(self, name: str) -> None:
        """Remove an object; a missing object is no error."""

    def create(self, name: str, data: bytes) -> str:
        """Publish only if absent; returns a version for `swap`. Raises AlreadyExists.

        `data` must differ from what any other writer may write (it may contain a random token): after
        a lost acknowledgement a writer recognises its own object by it.
        """

    def swap(self, name: str, data: bytes, version: str) -> str:
        """Replace the object if it is still that version; returns the new one. Raises Conflict.

        `data` must be unique, as for `create`.
        """

    def read_versioned(self, name: str) -> tuple[bytes, str]:
        """The bytes of an object and its version. Raises NotFound."""

    def sweep(self) -> None:
        """Remove the hidden files of killed writers; never an object or the file of a living writer."""


def checked_name(name: str) -> PurePosixPath:
    """The name as a path that stays below the root.

    Raises:
        ValueError: it does not.
    """
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\0" in name:
        raise ValueError(
            f"{name!r} is no name of an object: it must be a relative path without '..'"
        )
    return path
