"""One commit of the commit log, and its bytes: JSON with the digest of its content."""

import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from workers.storage import object_names
from workers.storage.object_names import ObjectName, parse_name


@dataclass(frozen=True)
class Commit:
    """The list of the segments that count, and related state.

    Attributes:
        number: of the commit; 0 if the store has no log yet.
        term: lease term of the driver that wrote the commit.
        segments: size in bytes of each segment that counts, by name. If two segments have a record of the
            same key, the record of the earlier segment in this order counts.
        removed: names of segments whose records were copied into others, and whose objects may still exist.
        failures: name of the object with the failures of earlier terms; None if there is none.
    """

    number: int = 0
    term: int = 0
    segments: Mapping[str, int] = field(default_factory=dict)
    removed: Sequence[str] = ()
    failures: str | None = None

    def of(self, collection: str) -> dict[ObjectName, int]:
        """Size in bytes of each segment of a collection, by name, in the order of the commit."""
        folder = object_names.records_folder(collection)
        parsed = ((parse_name(name), size) for name, size in self.segments.items())
        return {name: size for name, size in parsed if name is not None and name.folder == folder}

    def with_segments(self, segments: Mapping[str, int]) -> "Commit":
        """With further segments, by name with their sizes; those that count already keep their places."""
        fresh = {name: size for name, size in segments.items() if name not in self.segments}
        return replace(self, segments={**self.segments, **fresh})


def encode(commit: Commit) -> bytes:
    """A commit as JSON with the digest of its entries. The random token makes the bytes of each writer
    unique."""
    entries = {
        "commit": commit.number,
        "term": commit.term,
        "segments": dict(commit.segments),
        "removed": list(commit.removed),
        "failures": commit.failures,
        "token": secrets.token_hex(8),
    }
    content = json.dumps(entries)
    digest = hashlib.sha256(content.encode()).hexdigest()
    return f'{{"sha256": "{digest}", {content[1:]}'.encode()


def decode(data: bytes) -> Commit:
    """The commit in the bytes of its object.

    Raises:
        ValueError, KeyError, TypeError: the bytes are not those of a commit.
    """
    entries = dict(json.loads(data))
    if entries.pop("sha256") != hashlib.sha256(json.dumps(entries).encode()).hexdigest():
        raise ValueError("its content does not have its digest")
    return Commit(
        entries["commit"],
        entries["term"],
        entries["segments"],
        tuple(entries["removed"]),
        entries["failures"],
    )
