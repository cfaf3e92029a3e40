"""The store of a run: the only truth about what is complete.

A task is complete when its record lies in a segment that counts (`segments.py`) and the object that the
record names is there. Segments and objects are immutable and carry the digest of their bytes in their
names (`immutable_objects.py`), so publishing twice is harmless, and whatever is read is checked. What
is damaged counts as absent: it is named, it never enters a result, and the next run makes it again.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import safetensors
import safetensors.torch
from torch import Tensor

from workers.storage import object_names as layout
from workers.storage.immutable_objects import Damage, Damaged, Published, json_bytes
from workers.storage.object_names import Name
from workers.storage.objects import NotFound, Objects
from workers.storage.schema import (
    KINDS,
    R,
    Record,
    SchemaError,
    arrow_schema,
    list_columns,
    strings,
    to_records,
)
from workers.storage.segments import Segments
from workers.storage.tensor_files import decode_tensors, encode_tensors

__all__ = ["Checkpoint", "Damage", "Damaged", "Store"]

T = TypeVar("T")

KEPT_CHECKPOINTS = 2
"""The newest, and one before it in case the newest is damaged."""

FIGURES = {"minima": "loss", "pairs": "height", "simplices": "value"}
"""The column that a barcode is made of."""

_KEYS_AT_ONCE = 1 << 17

REPAIR_BYTES = 2 << 30
"""A store on a folder up to this size is checked whole whenever its run is started."""


@dataclass(frozen=True)
class Checkpoint:
    """The state of an unfinished task after `epoch` epochs of training or optimisation."""

    epoch: int
    tensors: dict[str, Tensor]
    scalars: dict[str, Any]


class Store:
    """Typed access to the objects of one run."""

    def __init__(self, objects: Objects) -> None:
        self.objects = objects
        self._published = Published(objects)
        self._segments = Segments(self._published)
        self.checkpoint_bytes = 0
        """Bytes of the checkpoints published through this object."""
        # Where the object of a key was found; immutable objects do not move.
        self._found: dict[tuple[str, str], list[Name]] = {}

    # Records.

    def publish_records(self, records: Sequence[Record], *, epoch: int) -> str:
        """Publish records of one kind as one segment; from then on their tasks are complete.

        Args:
            records: at least one, all of one kind.
            epoch: of the driver's lease.

        Returns:
            The segment's name.
        """
        return self._segments.publish(records, epoch=epoch)

    def table(self, collection: str, columns: Collection[str] | None = None) -> pa.Table:
        """The records of complete tasks as an Arrow table, one a key.

        Args:
            collection: `minima`, `pairs` or `simplices`.
            columns: those to read; all by default. Half a million profiles fill gigabytes: ask for
                what is needed.
        """
        return self._segments.table(collection, columns)

    def records(self, kind: type[R], *, lists: bool = True) -> list[R]:
        """The records of complete tasks of one kind, one a key.

        Args:
            kind: of the records.
            lists: read profiles and histories as well; without, they are empty.
        """
        columns = None
        if not lists:
            columns = set(arrow_schema(kind).names) - set(list_columns(kind))
        return to_records(self.table(kind.collection, columns), kind)

    def figures(self, collection: str) -> dict[str, float]:
        """Loss of each minimum, height of each pass or value of each simplex that is there, by key."""
        column = FIGURES[collection]
        table = self.table(collection, ("key", column))
        return dict(
            zip(table.column("key").to_pylist(), table.column(column).to_pylist(), strict=True)
        )

    def completed(self, collection: str, *, deep: bool = False) -> frozenset[str]:
        """Keys of the tasks that are complete.

        Args:
            deep: read every object, and leave out the tasks whose object is damaged; by default it is
                enough that the object is there.
        """
        table = self.table(collection, ("key", "object"))
        if deep:
            names = [layout.parse_name(n) for n in table.column("object").to_pylist() if n]
            damage = self._published.verify(name for name in names if name is not None)
            bad = {item.name for item in damage}
            pairs = zip(
                table.column("key").to_pylist(), table.column("object").to_pylist(), strict=True
            )
            return frozenset(key for key, name in pairs if name not in bad)
        return frozenset(table.column("key").to_pylist())

    def are_complete(self, collection: str, keys: Iterable[str]) -> bytearray:
        """For each of the keys, in order, 1 if its task is complete and 0 if not.

        Keys pass through in pieces, so that half a million of them are never held at once.
        """
        there = self.table(collection, ("key",)).column("key")
        answers, rest = bytearray(), iter(keys)
        while piece := list(islice(rest, _KEYS_AT_ONCE)):
            found = pc.is_in(strings(piece), value_set=there)
            answers.extend(found.to_pylist())
        return answers

    def count(self, collection: str) -> int:
        """How many tasks are complete."""
        return len(self.table(collection, ("key",)))

    def adopt(self, other: "Store", collection: str, keys: frozenset[str], *, epoch: int) -> int:
        """Copy results of another run's store: objects first, then their records.

        Args:
            other: the store to copy from.
            collection: of the records.
            keys: of tasks that are complete there.
            epoch: of the lease that is held on this store.

        Returns:
            How many were copied; what is damaged there is left out.
        """
        sound: list[Record] = []
        for record in to_records(other.table(collection), KINDS[collection]):
            if record.key not in keys:
                continue
            if record.object is not None:
                try:
                    data = other._published.read(record.object, lambda data: data)
                except (Damaged, NotFound):
                    continue
                self.objects.put(record.object, data)
            sound.append(replace(record, lease_term=epoch))
        if sound:
            self.publish_records(sound, epoch=epoch)
        return len(sound)

    def delete_objects(self, names: Iterable[str]) -> None:
        """Let go of tensors that no record names any more."""
        self._published.delete(names)
        self._found.clear()

    def fence(self, epoch: int) -> None:
        """Close the books of former leases: what they have published so far counts, nothing later.

        Args:
            epoch: of the lease that is held now.
        """
        self._segments.fence(epoch)

    def compact(self, collection: str, *, epoch: int, confirm: Callable[[], None]) -> list[str]:
        """Copy many segments into few, then delete them; may be interrupted at any point.

        Args:
            epoch: of the lease that is held now.
            confirm: raises if that lease has been lost; it must ask the store, not its memory.

        Returns:
            The names of the new segments; none if there was nothing to gain.
        """
        return self._segments.compact(collection, epoch=epoch, confirm=confirm)

    # Tensors.

    def publish_minimum(self, key: str, state: Mapping[str, Tensor]) -> str:
        """Publish a state dict; returns the object's name."""
        contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
        data = safetensors.torch.save(contiguous)
        return self._published.publish(layout.MINIMA, key, "safetensors", data)

    def read_minimum(self, key: str) -> dict[str, Tensor]:
        """The state dict of a minimum.

        Raises:
            Damaged: it is missing or not what was published.
        """
        return self._read(layout.MINIMA, "minima", key, _decode_state)

    def publish_path(self, key: str, tensors: Mapping[str, Tensor], **scalars: Any) -> str:
        """Publish the points of an optimised path; returns the object's name."""
        data = encode_tensors(tensors, scalars)
        return self._published.publish(layout.PATHS, key, "parquet", data)

    def read_path(self, key: str) -> dict[str, Tensor]:
        """The points of an optimised path.

        Raises:
            Damaged: they are missing or not what was published.
        """
        return self._read(layout.PATHS, "pairs", key, _decode_matrices)

    def publish_simplex(self, key: str, tensors: Mapping[str, Tensor], **scalars: Any) -> str:
        """Publish the points of an optimised simplex; returns the object's name."""
        data = encode_tensors(tensors, scalars)
        return self._published.publish(layout.SIMPLICES, key, "parquet", data)

    def read_simplex(self, key: str) -> dict[str, Tensor]:
        """The points of an optimised simplex.

        Raises:
            Damaged: they are missing or not what was published.
        """
        return self._read(layout.SIMPLICES, "simplices", key, _decode_matrices)

    # Checkpoints.

    def publish_checkpoint(
        self,
        key: str,
        epoch: int,
        tensors: Mapping[str, Tensor],
        scalars: Mapping[str, Any],
        *,
        passes: int | None = None,
    ) -> None:
        """Publish the state of a task in progress, then let go of older ones.

        Args:
            key: of the task.
            epoch: epochs done.
            tensors, scalars: the state.
            passes: done of the curve that comes before a first epoch.
        """
        folder = layout.checkpoint_folder(key)
        data = encode_tensors(tensors, scalars)
        self.checkpoint_bytes += len(data)
        self._published.publish(folder, layout.checkpoint_stem(epoch, passes), "parquet", data)
        self._published.delete(self._published.names(folder)[:-KEPT_CHECKPOINTS])

    def latest_checkpoint(self, key: str, *, at_most: int | None = None) -> Checkpoint | None:
        """The newest checkpoint that is whole; damaged ones are noted and passed over.

        Args:
            at_most: the last epoch that is of use.
        """
        for name in reversed(self._published.names(layout.checkpoint_folder(key))):
            if at_most is not None and name.epoch > at_most:
                continue
            try:
                tensors, scalars = self._published.read(name, decode_tensors)
            except (Damaged, NotFound):
                continue
            return Checkpoint(name.epoch, tensors, scalars)
        return None

    def drop_checkpoints(self, key: str) -> None:
        """Let go of all checkpoints of a task."""
        self._published.delete(self._published.names(layout.checkpoint_folder(key)))

    def checkpointed(self) -> list[str]:
        """Keys and lineages of which there are checkpoints, sorted."""
        found = self._published.names(layout.CHECKPOINTS)
        return sorted({name.folder.removeprefix(f"{layout.CHECKPOINTS}/") for name in found})

    # Failures and the run's own description.

    def publish_failure(self, key: str, failure: Mapping[str, Any]) -> None:
        """Write down why a task failed, in place of what was written about it before."""
        before = self._failures_of(key)
        made = self._published.publish(layout.FAILURES, key, "json", json_bytes(failure))
        self._published.delete(name for name in before if str(name) != made)

    def failures(self) -> dict[str, dict[str, Any]]:
        """Failed tasks that nobody has retried, by key."""
        found = {
            n.stem: self._published.read_json(n) for n in self._published.names(layout.FAILURES)
        }
        return {key: value for key, value in found.items() if value is not None}

    def clear_failure(self, key: str) -> None:
        """Forget that a task failed, so that it is tried again."""
        self._published.delete(self._failures_of(key))

    def publish_config(self, config: Mapping[str, Any], *, epoch: int) -> None:
        """Write down what a driver was asked for and with what versions it runs."""
        stem = f"config-{layout.epoch_stem(epoch)}"
        self._published.publish(layout.RUN, stem, "json", json_bytes(config))

    def latest_config(self) -> dict[str, Any] | None:
        """What the last driver wrote down when it started; None for a run that never started."""
        names = [n for n in self._published.names(layout.RUN) if n.stem.startswith("config-")]
        for name in reversed(names):
            if (value := self._published.read_json(name)) is not None:
                return value
        return None

    # Damage.

    def damage(self) -> list[Damage]:
        """What was found damaged so far, by name."""
        return self._published.damage

    def verify(self, prefix: str = "") -> list[Damage]:
        """Check every object below a folder against the digest in its name, and every record.

        Returns:
            What is damaged, and what a record names and is not there.
        """
        self._published.verify(self._published.names(prefix))
        for collection in KINDS:
            for name in self._segments.missing(collection):
                self._published.note(Damage(name, f"{name} is missing: a record names it"))
        return self.damage()

    def repair(self) -> list[Damage]:
        """Find and delete what is damaged, so that it is made again; what it was.

        On a folder every object is read, up to `REPAIR_BYTES`; beyond that, and on an object store,
        those that results are computed from. What killed and fenced writers left goes as well. Sound
        files of versions that this program does not know stay. For the holder of the lease.
        """
        self.objects.sweep()
        self._published.delete(self._segments.late())
        small = sum(info.size for info in self.objects.list()) <= REPAIR_BYTES
        everything = small and "://" not in self.objects.url
        folders = (layout.RECORDS, layout.MINIMA, layout.FAILURES, layout.RUN)
        found: list[Damage] = []
        for folder in ("",) if everything else folders:
            found += self._published.verify(self._published.names(folder))
        self.discard(found)
        return found

    def discard(self, damage: Iterable[Damage]) -> None:
        """Delete damaged objects; what they held counts as never done."""
        names = [item.name for item in damage]
        self._published.delete(names)
        self._segments.forget(names)
        self._found.clear()

    # Plumbing.

    def _read(self, folder: str, collection: str, key: str, decode: Callable[[bytes], T]) -> T:
        """The object of a key; of several, the one that the record names."""
        for _ in range(2):  # what was remembered may have been deleted and made again
            names = self._found.get((folder, key)) or self._find(folder, key)
            if len(names) > 1:
                rows = self.table(collection, ("key", "object")).to_pylist()
                named = {row["object"] for row in rows if row["key"] == key}
                names = [name for name in names if str(name) in named] or names
            try:
                return self._published.read(names[0], decode)
            except NotFound:
                self._found.clear()
        raise Damaged(f"{folder}/{key} is missing from the store")

    def _find(self, folder: str, key: str) -> list[Name]:
        """One listing finds the objects of all keys."""
        self._found = {at: names for at, names in self._found.items() if at[0] != folder}
        for name in self._published.names(folder):
            self._found.setdefault((folder, name.stem), []).append(name)
        try:
            return self._found[folder, key]
        except KeyError:
            raise Damaged(f"{folder}/{key} is missing from the store") from None

    def _failures_of(self, key: str) -> list[Name]:
        return [name for name in self._published.names(layout.FAILURES) if name.stem == key]


def _decode_matrices(data: bytes) -> dict[str, Tensor]:
    return decode_tensors(data)[0]


def _decode_state(data: bytes) -> dict[str, Tensor]:
    try:
        state: dict[str, Tensor] = safetensors.torch.load(data)
        return state
    except safetensors.SafetensorError as error:
        raise SchemaError(f"it is not readable as safetensors ({error})") from None
