"""The kinds of store by URL scheme, and how a location is opened."""

from collections.abc import Callable
from pathlib import Path

from workers.storage.objects import NotWritable, Objects


def _folder(location: str) -> Objects:
    from workers.storage.folder import FolderObjects

    return FolderObjects(Path(location))


def _bucket(location: str) -> Objects:
    # Imported here: a local run does not load the object-store client.
    from workers.storage.buckets import BucketObjects

    return BucketObjects(location)


STORES: dict[str, Callable[[str], Objects]] = {
    "": _folder,
    "s3": _bucket,
    "gs": _bucket,
    "az": _bucket,
}
"""How a location is opened, by its scheme; a location without one is a folder."""


def register(scheme: str, open_location: Callable[[str], Objects]) -> None:
    """Add a kind of store.

    Args:
        scheme: what its locations begin with, before `://`.
        open_location: makes the objects of a location; it may raise NotWritable.

    Raises:
        ValueError: the scheme is known already.
    """
    if scheme in STORES:
        raise ValueError(f"{scheme}:// is a known scheme; give the new store another one")
    STORES[scheme] = open_location


def open_objects(location: str) -> Objects:
    """The objects at a folder or at `scheme://bucket/prefix`.

    Endpoint and credentials of an object store come from the environment alone, see `buckets.py`.

    Raises:
        NotWritable: the scheme is not known, or the location is not complete.
    """
    scheme, separator, _ = location.partition("://")
    if not separator:
        scheme = ""
    if scheme not in STORES:
        known = ", ".join(f"{name}://" for name in STORES if name)
        raise NotWritable(
            f"{location} is neither a folder nor one of {known}; choose one of these."
        )
    return STORES[scheme](location)
