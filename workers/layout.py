"""Names of objects: pure. Every immutable name carries the SHA-256 of the object's bytes.

records/{minima,pairs,simplices}/<lease epoch>-<random>.<digest>.parquet
minima/<key>.<digest>.safetensors
paths/<key>.<digest>.parquet        simplices/<key>.<digest>.parquet
checkpoints/<key>/<epoch>.<digest>.parquet
failures/<key>.<digest>.json
run/config-<lease epoch>.<digest>.json
"""

import hashlib
from dataclasses import dataclass
from pathlib import PurePosixPath

DIGEST_LENGTH = 16

LEASE = "lease.json"
"""The one object that changes."""

STOP = "run/stop"
"""Its presence asks the driver to finish what runs and leave."""


@dataclass(frozen=True)
class Name:
    """A name taken apart: `folder/stem.digest.suffix`."""

    folder: str
    stem: str
    digest: str
    suffix: str

    def __str__(self) -> str:
        return f"{self.folder}/{self.stem}.{self.digest}.{self.suffix}"


def content_digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:DIGEST_LENGTH]


def name_of(folder: str, stem: str, suffix: str, data: bytes) -> Name:
    return Name(folder, stem, content_digest(data), suffix)


def parse_name(text: str) -> Name | None:
    """The parts of a name; None for what is not one of ours."""
    path = PurePosixPath(text)
    parts = path.name.split(".")
    if len(parts) != 3 or len(parts[1]) != DIGEST_LENGTH:
        return None
    return Name(str(path.parent), *parts)


def records_folder(collection: str) -> str:
    return f"records/{collection}"


def checkpoint_folder(key: str) -> str:
    return f"checkpoints/{key}"


def epoch_stem(epoch: int) -> str:
    """Eight digits, so that names sort as epochs do."""
    return f"{epoch:08d}"
