"""Named objects of bytes in a folder or in a bucket. An object exists completely or not at all.

The protocol `Objects` has few operations: put a whole object, get it, list, delete, create if absent (for the
commit log and the lease), and compare-and-swap (for the lease). Two classes implement it:

* `folder.FolderObjects`: a file for each object, written under a hidden name, flushed to disk, then renamed.
* `buckets.BucketObjects`: one request for each object; conditional requests for the lease and the log.

The message of an error for the user is one sentence that says what to do.
"""

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Protocol


class StoreUnreachable(Exception):
    """The store did not answer; a later attempt may succeed."""


class StoreFull(Exception):
    """There is no space left in the store."""


class NotWritable(Exception):
    """The store refuses access or cannot be opened; another location or other permissions are needed."""


class NotFound(Exception):
    """There is no object of that name."""


class AlreadyExists(Exception):
    """The object to be created exists already."""


class Conflict(Exception):
    """Another process has changed the object since it was read."""


class Fenced(Exception):
    """Another driver has taken the run over."""


@dataclass(frozen=True)
class ObjectInfo:
    """An object in a listing; `size` in bytes."""

    name: str
    size: int


class Objects(Protocol):
    """Named objects of bytes below one root. A name is a relative path with forward slashes.

    Any method may raise StoreUnreachable or NotWritable, any method that writes StoreFull, and any method
    with a name that points outside the root ValueError.
    """

    @property
    def url(self) -> str:
        """The absolute path of the folder or the URL; `open_objects` opens the same store from it."""

    def check_writable(self) -> None:
        """Check that objects can be written, with an object or file that is deleted afterwards.

        Raises:
            NotWritable, StoreFull, StoreUnreachable: nothing can be written.
        """

    def put(self, name: str, data: bytes) -> None:
        """Write an object. Readers see the old object or the new one, never a part of it."""

    def get(self, name: str) -> bytes:
        """The bytes of an object.

        Raises:
            NotFound: there is no such object.
        """

    def list(self, prefix: str = "") -> list[ObjectInfo]:
        """Objects below a folder, sorted by name; a missing folder holds none."""

    def delete(self, name: str) -> None:
        """Delete an object; a missing object is no error."""

    def create(self, name: str, data: bytes) -> str:
        """Write an object if there is none of that name.

        Args:
            name: of the object.
            data: bytes that no other writer writes, for instance with a random token: if the answer of the
                store is lost, the writer compares them to find out whether the object is its own.

        Returns:
            The version of the object, for `swap`.

        Raises:
            AlreadyExists: there is an object of that name.
        """

    def swap(self, name: str, data: bytes, version: str) -> str:
        """Replace an object if its version is still `version`.

        Args:
            name: of the object.
            data: bytes that no other writer writes, as for `create`.
            version: that `create`, `swap` or `read_versioned` returned.

        Returns:
            The new version.

        Raises:
            Conflict: the object has another version or does not exist.
        """

    def read_versioned(self, name: str) -> tuple[bytes, str]:
        """The bytes of an object and its version.

        Raises:
            NotFound: there is no such object.
        """

    def sweep(self) -> None:
        """Remove the hidden files that killed writers have left; objects and running writers are not
        affected."""


def checked_name(name: str) -> PurePosixPath:
    """The name of an object as a path below the root.

    Raises:
        ValueError: the name is empty or absolute, or contains `..` or a NUL character.
    """
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\0" in name:
        raise ValueError(
            f"{name!r} is no name of an object: it must be a relative path without '..'"
        )
    return path
