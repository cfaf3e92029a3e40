"""The registry of store kinds by URL scheme, and the function that opens a location."""

from collections.abc import Callable
from pathlib import Path

from workers.storage.objects import NotWritable, Objects


def _folder(location: str) -> Objects:
    from workers.storage.folder import FolderObjects

    return FolderObjects(Path(location))


def _bucket(location: str) -> Objects:
    # Imported here, so that a run in a folder does not import the object-store client.
    from workers.storage.buckets import BucketObjects

    return BucketObjects(location)


STORES: dict[str, Callable[[str], Objects]] = {
    "": _folder,
    "s3": _bucket,
    "gs": _bucket,
    "az": _bucket,
}
"""The function that opens a location, by the scheme of the location; a location without a scheme is a
folder."""


def register(scheme: str, open_location: Callable[[str], Objects]) -> None:
    """Add a kind of store.

    Args:
        scheme: the part of its locations before `://`.
        open_location: returns the objects of a location; it may raise NotWritable.

    Raises:
        ValueError: the scheme is registered already.
    """
    if scheme in STORES:
        raise ValueError(f"{scheme}:// is a known scheme; give the new store another one")
    STORES[scheme] = open_location


def open_objects(location: str) -> Objects:
    """The objects in a folder or at `scheme://bucket/prefix`.

    The endpoint and the credentials of an object store come from the environment; see `buckets.py`.

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
