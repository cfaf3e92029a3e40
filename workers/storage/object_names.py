"""Names of objects, as pure functions.

<digest> is the beginning of the SHA-256 of the object's bytes. Only the names of commits, the lease, the
request to stop and the settings of a kind of device contain none.

lease.json
log/<number>.json
records/{minima,pairs,simplices,saddles}/<lease term>-<worker>-<random>.<digest>.parquet
minima/<key>.<digest>.safetensors
paths/<key>.<digest>.parquet        simplices/<key>.<digest>.parquet
saddles/<key>.<digest>.parquet
checkpoints/<key>/<epoch>[-<passes of a curve>].<digest>.parquet
failures/<lease term>-<key>.<digest>.json
failures/earlier-<lease term>.<digest>.json
run/config-<lease term>.<digest>.json
run/device-settings-<hash of a kind of device>.json
run/stop
"""

import hashlib
import re
from dataclasses import dataclass

DIGEST_LENGTH = 16
"""Hex digits of a digest in a name. They hold 64 bits: enough to detect accidental damage, not an attack."""

LEASE = "lease.json"
"""The name of the lease, which drivers replace by compare-and-swap."""

STOP = "run/stop"
"""The name of a request to the driver to finish the running tasks and stop; it contains the driver's lease
term."""

MINIMA, PATHS, SIMPLICES, SADDLES, CHECKPOINTS, FAILURES, RECORDS, RUN, LOG = (
    "minima",
    "paths",
    "simplices",
    "saddles",
    "checkpoints",
    "failures",
    "records",
    "run",
    "log",
)

_TOKEN_LENGTH = 12

_DIGEST = re.compile(rf"[0-9a-f]{{{DIGEST_LENGTH}}}")


@dataclass(frozen=True)
class ObjectName:
    """A parsed name: `folder/stem.digest.suffix`."""

    folder: str
    stem: str
    digest: str
    suffix: str

    def __str__(self) -> str:
        return f"{self.folder}/{self.stem}.{self.digest}.{self.suffix}"

    @property
    def number(self) -> int:
        """The first number in the stem: a lease term, or the number of steps of a checkpoint.

        Raises:
            StopIteration: the stem contains no number.
        """
        return next(int(part) for part in self.stem.split("-") if part.isdigit())


def content_digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:DIGEST_LENGTH]


def name_of(folder: str, stem: str, suffix: str, data: bytes) -> ObjectName:
    return ObjectName(folder, stem, content_digest(data), suffix)


def parse_name(text: str) -> ObjectName | None:
    """Parse a name; None if it is not the name of an immutable object."""
    # No `PurePosixPath`, which takes ten times as long: a driver parses hundreds of thousands of names.
    folder, _, name = text.rpartition("/")
    parts = name.split(".")
    if not folder or len(parts) != 3 or not all(parts) or not _DIGEST.fullmatch(parts[1]):
        return None
    return ObjectName(folder, *parts)


def records_folder(collection: str) -> str:
    return f"{RECORDS}/{collection}"


def checkpoint_folder(key: str) -> str:
    return f"{CHECKPOINTS}/{key}"


def numbered(number: int) -> str:
    """A number with eight digits, so that names sort in the order of the numbers."""
    return f"{number:08d}"


def checkpoint_stem(epoch: int, passes: int | None) -> str:
    """The stem of a checkpoint.

    Args:
        epoch: number of epochs, rounds or other steps that are done.
        passes: for a curve that is trained before the first epoch of a path (`epoch` 0), its passes over the
            data; else None.
    """
    return numbered(epoch) if passes is None else f"{numbered(epoch)}-{numbered(passes)}"


def segment_stem(lease_term: int, worker: str, token: str) -> str:
    """The stem of a segment; `token` is a random string of 12 characters that makes it unique."""
    return f"{numbered(lease_term)}-{escaped(worker)}-{token}"


def segment_worker(name: str) -> str:
    """The name of the worker that published a segment, as `escaped` returns it."""
    return name.rpartition("/")[2].partition(".")[0][9 : -_TOKEN_LENGTH - 1]


def escaped(worker: str) -> str:
    """A worker's name in which every character that an object's name must not contain is replaced by `_`."""
    return re.sub(r"[^\w-]", "_", worker)


def failure_stem(lease_term: int, key: str) -> str:
    return f"{numbered(lease_term)}-{key}"


def device_settings_name(key: str) -> str:
    return f"{RUN}/device-settings-{key}.json"


def commit_name(number: int) -> str:
    return f"{LOG}/{numbered(number)}.json"


def commit_number(name: str) -> int | None:
    """The number of a commit; None for another name."""
    found = re.fullmatch(rf"{LOG}/(\d+)\.json", name)
    return int(found[1]) if found else None
