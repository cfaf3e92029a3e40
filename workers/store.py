"""The store of a run: the only truth about what is complete.

A task is complete when its record lies in a segment and the object that the record names is there.
Segments and objects are immutable and carry the digest of their bytes in their names, so publishing
twice is harmless, and whatever is read is checked. What is damaged counts as absent: it is named, it
never enters a result, and the next run makes it again.
"""

import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import pyarrow as pa
import safetensors
import safetensors.torch
from torch import Tensor

from workers import layout
from workers.objects import NotFound, Objects
from workers.schema import (
    KINDS,
    MinimumRecord,
    PairRecord,
    Record,
    SchemaError,
    SimplexRecord,
    arrow_schema,
    decode_table,
    decode_tensors,
    encode_records,
    encode_tensors,
    to_records,
)

R = TypeVar("R", MinimumRecord, PairRecord, SimplexRecord)

KEPT_CHECKPOINTS = 2
"""The newest, and one before it in case the newest is damaged."""


REPAIR_BYTES = 2 << 30


class Damaged(Exception):
    """An object's bytes are not those that were published; the message names it."""


@dataclass(frozen=True)
class Damage:
    name: str
    reason: str


@dataclass(frozen=True)
class Checkpoint:
    epoch: int
    tensors: dict[str, Tensor]
    scalars: dict[str, Any]


class Store:
    """Typed access to the objects of one run."""

    def __init__(self, objects: Objects) -> None:
        self.objects = objects
        self._segments: dict[str, pa.Table | None] = {}
        self._damage: dict[str, Damage] = {}

    # Records.

    def publish_records(self, records: Sequence[Record], *, epoch: int) -> str:
        """Publish records of one kind as one segment; from then on their tasks are complete.

        Args:
            records: at least one, all of one kind.
            epoch: of the driver's lease.
        """
        data = encode_records(records)
        folder = layout.records_folder(type(records[0]).collection)
        stem = f"{layout.epoch_stem(epoch)}-{secrets.token_hex(6)}"
        return self._publish(folder, stem, "parquet", data)

    def table(self, collection: str) -> pa.Table:
        """All readable records of a collection, one a key, of tasks that are complete."""
        kind = KINDS[collection]
        tables = [
            table
            for name in self._accepted(self._names(layout.records_folder(collection)))
            if (table := self._segment(name, collection)) is not None
        ]
        if not tables:
            return arrow_schema(kind).empty_table()
        whole = pa.concat_tables(tables)
        present = {info.name for info in self.objects.list(_OBJECT_FOLDERS[collection])}
        seen: set[str] = set()
        keep = []
        columns = (whole.column("key").to_pylist(), whole.column("object").to_pylist())
        for row, (key, name) in enumerate(zip(*columns, strict=True)):
            if key not in seen and (name is None or name in present):
                seen.add(key)
                keep.append(row)
        return whole if len(keep) == len(whole) else whole.take(pa.array(keep, pa.int64()))

    def records(self, kind: type[R]) -> list[R]:
        """The readable records of one kind, one a key, of tasks that are complete."""
        return to_records(self.table(kind.collection), kind)

    def completed(self, collection: str) -> frozenset[str]:
        """Keys of the tasks that are complete."""
        return frozenset(self.table(collection).column("key").to_pylist())

    def fence(self, epoch: int) -> None:
        """Close the books of former leases: what they have published so far counts, nothing later.

        Args:
            epoch: of the lease that is held now.
        """
        names = [n for c in KINDS for n in self._names(layout.records_folder(c))]
        earlier = [name for name in names if _epoch_of(name) < epoch]
        self._publish(
            "run", f"accepted-{layout.epoch_stem(epoch)}", "json", _json({"segments": earlier})
        )

    def _accepted(self, names: Sequence[str]) -> list[str]:
        """Segments that count: of the newest lease, and those that it found when it was taken."""
        books = [n for n in self._names("run") if n.startswith("run/accepted-")]
        for book in reversed(books):
            content = self._read_json(book)
            if content is not None:
                listed, newest = set(content["segments"]), _epoch_of(book)
                return [n for n in names if n in listed or _epoch_of(n) >= newest]
        return list(names)

    def _segment(self, name: str, collection: str) -> pa.Table | None:
        """A segment is immutable: it is read and checked once."""
        if name not in self._segments:
            try:
                self._segments[name] = decode_table(self.read(name), KINDS[collection])
            except NotFound:  # compacted while we looked
                return None
            except (Damaged, SchemaError) as error:
                self._segments[name] = None
                self._damage[name] = Damage(name, str(error))
        return self._segments[name]

    # Tensors.

    def publish_minimum(self, key: str, state: Mapping[str, Tensor]) -> str:
        """Publish a state dict; returns the object's name."""
        contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
        return self._publish("minima", key, "safetensors", safetensors.torch.save(contiguous))

    def read_minimum(self, key: str) -> dict[str, Tensor]:
        """The state dict of a minimum.

        Raises:
            Damaged: it is missing or not what was published.
        """
        name = self._only("minima", key)
        try:
            return safetensors.torch.load(self.read(name))
        except safetensors.SafetensorError as error:
            raise Damaged(f"{name} is not readable as safetensors ({error})") from None

    def publish_path(self, key: str, tensors: Mapping[str, Tensor], **scalars: Any) -> str:
        return self._publish("paths", key, "parquet", encode_tensors(tensors, scalars))

    def publish_simplex(self, key: str, tensors: Mapping[str, Tensor], **scalars: Any) -> str:
        return self._publish("simplices", key, "parquet", encode_tensors(tensors, scalars))

    def read_path(self, key: str) -> dict[str, Tensor]:
        """The points of an optimised path.

        Raises:
            Damaged: they are missing or not what was published.
        """
        return self._read_tensors(self._only("paths", key))[0]

    def read_simplex(self, key: str) -> dict[str, Tensor]:
        return self._read_tensors(self._only("simplices", key))[0]

    # Checkpoints.

    def publish_checkpoint(
        self, key: str, epoch: int, tensors: Mapping[str, Tensor], scalars: Mapping[str, Any]
    ) -> None:
        """Publish the state of a task in progress, then let go of older ones."""
        folder = layout.checkpoint_folder(key)
        self._publish(folder, layout.epoch_stem(epoch), "parquet", encode_tensors(tensors, scalars))
        for name in self._names(folder)[:-KEPT_CHECKPOINTS]:
            self.objects.delete(name)

    def latest_checkpoint(self, key: str) -> Checkpoint | None:
        """The newest checkpoint that is whole; damaged ones are noted and passed over."""
        for name in reversed(self._names(layout.checkpoint_folder(key))):
            try:
                tensors, scalars = self._read_tensors(name)
            except Damaged as error:
                self._damage[name] = Damage(name, str(error))
                continue
            parsed = layout.parse_name(name)
            assert parsed is not None  # _names lists no others
            return Checkpoint(int(parsed.stem), tensors, scalars)
        return None

    def drop_checkpoints(self, key: str) -> None:
        for name in self._names(layout.checkpoint_folder(key)):
            self.objects.delete(name)

    # Failures and the run's own description.

    def publish_failure(self, key: str, failure: Mapping[str, Any]) -> None:
        self._publish("failures", key, "json", _json(failure))

    def failures(self) -> dict[str, dict[str, Any]]:
        """Failed tasks that nobody has retried, by key."""
        found = {}
        for name in self._names("failures"):
            parsed = layout.parse_name(name)
            if parsed is not None and (value := self._read_json(name)) is not None:
                found[parsed.stem] = value
        return found

    def clear_failure(self, key: str) -> None:
        for name in self._names("failures"):
            parsed = layout.parse_name(name)
            if parsed is not None and parsed.stem == key:
                self.objects.delete(name)

    def publish_config(self, config: Mapping[str, Any], *, epoch: int) -> None:
        self._publish("run", f"config-{layout.epoch_stem(epoch)}", "json", _json(config))

    def latest_config(self) -> dict[str, Any] | None:
        """What the last driver wrote down when it started; None for a run that never started."""
        names = [n for n in self._names("run") if n.startswith("run/config-")]
        for name in reversed(names):
            if (value := self._read_json(name)) is not None:
                return value
        return None

    # Damage.

    def damage(self) -> list[Damage]:
        """What was found damaged so far, by name."""
        return [self._damage[name] for name in sorted(self._damage)]

    def verify(self, prefix: str = "") -> list[Damage]:
        """Check every object below a folder against the digest in its name."""
        for name in self._names(prefix):
            try:
                self.read(name)
            except NotFound:
                continue
            except Damaged as error:
                self._damage[name] = Damage(name, str(error))
        return self.damage()

    def repair(self) -> list[Damage]:
        """Find and delete what is damaged, so that it is made again; what it was.

        On a folder every object is read, up to `REPAIR_BYTES`; beyond that, and on an object store,
        those that results are computed from.
        """
        infos = self.objects.list()
        small = sum(info.size for info in infos) <= REPAIR_BYTES
        if small and "://" not in self.objects.url:
            self.verify()
        else:
            for folder in ("records", "minima", "failures", "run"):
                self.verify(folder)
        found = self.damage()
        self.discard(found)
        return found

    def discard(self, damage: Iterable[Damage]) -> None:
        """Delete damaged objects; what they held counts as never done."""
        for item in damage:
            self.objects.delete(item.name)
            self._segments.pop(item.name, None)
            self._damage.pop(item.name, None)

    # Plumbing.

    def read(self, name: str) -> bytes:
        """The bytes of an object, checked.

        Raises:
            Damaged: they are not those that were published.
            NotFound: there is no such object.
        """
        data = self.objects.get(name)
        parsed = layout.parse_name(name)
        if parsed is not None and layout.content_digest(data) != parsed.digest:
            raise Damaged(f"{name} is damaged: its bytes do not have the digest in its name")
        return data

    def _publish(self, folder: str, stem: str, suffix: str, data: bytes) -> str:
        name = str(layout.name_of(folder, stem, suffix, data))
        self.objects.put(name, data)
        return name

    def _names(self, folder: str) -> list[str]:
        names = (info.name for info in self.objects.list(folder))
        return [name for name in names if layout.parse_name(name) is not None]

    def _only(self, folder: str, key: str) -> str:
        for name in self._names(folder):
            parsed = layout.parse_name(name)
            if parsed is not None and parsed.stem == key:
                return name
        raise Damaged(f"{folder}/{key} is missing from the store")

    def _read_tensors(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        try:
            return decode_tensors(self.read(name))
        except SchemaError as error:
            raise Damaged(f"{name} is damaged: {error}") from None

    def _read_json(self, name: str) -> dict[str, Any] | None:
        try:
            value = json.loads(self.read(name))
        except NotFound:
            return None
        except (Damaged, ValueError) as error:
            self._damage[name] = Damage(name, str(error))
            return None
        return dict(value)


_OBJECT_FOLDERS = {"minima": "minima", "pairs": "paths", "simplices": "simplices"}


def _epoch_of(name: str) -> int:
    """The lease epoch in the name of a segment or of a book of accepted segments."""
    parsed = layout.parse_name(name)
    assert parsed is not None  # only our own names are listed
    digits = [part for part in parsed.stem.split("-") if part.isdigit()]
    return int(digits[0])


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(dict(value), indent=1).encode()
