"""The files of a checkpoint: one file, or the shards that an index lists. This module does not import
torch."""

import hashlib
import json
from pathlib import Path

from workers.problems.user_code import BadReference

INDEX = ".index.json"
"""End of the name of a file that lists the shards of one checkpoint, as Hugging Face writes it."""


def files_of(location: str) -> tuple[Path, ...]:
    """The files that contain the tensors of a checkpoint: the file itself, or the shards of an index, sorted.

    Raises:
        BadReference: the location has the name of an index, and lists no shards.
    """
    path = Path(location)
    if not path.name.endswith(INDEX):
        return (path,)
    try:
        shards = json.loads(path.read_text("utf-8"))["weight_map"].values()
        return tuple(path.parent / name for name in sorted(set(shards)))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BadReference(
            f"minima.from names {location}, which lists no shards under weight_map: name the index that "
            "lies beside them"
        ) from None


def content_of(location: str) -> str:
    """SHA-256 of the bytes of a checkpoint: of its file, or of all its shards in order.

    Raises:
        BadReference: the location has the name of an index, and lists no shards.
        OSError: a file cannot be read.
    """
    total = hashlib.sha256()
    for file in files_of(location):
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                total.update(block)
    return total.hexdigest()
