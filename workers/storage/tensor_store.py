"""The tensors of tasks: parameters of minima, points of paths, simplices and saddles, and checkpoints.

torch is imported on first use: reading the records of a run does not need it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from workers.storage import object_names as layout
from workers.storage.immutable_objects import Damaged, ImmutableObjects
from workers.storage.objects import NotFound
from workers.storage.schema import SchemaError
from workers.storage.tensor_files import decode_tensors, encode_tensors

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

KEPT_CHECKPOINTS = 2
"""Number of checkpoints of a task that are kept: the newest, and one more to read if the newest is
damaged."""


@dataclass(frozen=True)
class Checkpoint:
    """The state of an unfinished task.

    Attributes:
        epoch: number of steps done, which increases with every checkpoint: epochs of a path, simplex or
            training, gradients and products of a polish added to its epochs, or rounds of a saddle.
        tensors: 2-D tensors of the state, on the CPU.
        scalars: values of the state that JSON can encode.
    """

    epoch: int
    tensors: dict[str, "Tensor"]
    scalars: dict[str, Any]


class TensorStore:
    """Typed access to the tensors of one run."""

    def __init__(self, published: ImmutableObjects) -> None:
        self._published = published
        self.checkpoint_bytes = 0
        """Bytes of the checkpoints published through this object."""

    def publish_minimum(self, key: str, state: Mapping[str, "Tensor"]) -> str:
        """Publish the state dict of a minimum as safetensors; returns the object's name."""
        import safetensors.torch

        contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
        data = safetensors.torch.save(contiguous)
        return self._published.publish(layout.MINIMA, key, "safetensors", data)

    def read_minimum(self, name: str) -> dict[str, "Tensor"]:
        """The state dict of a minimum.

        Args:
            name: of the object, from the record.

        Raises:
            Damaged: it is missing or not what was published.
        """
        return self._read(name, _decode_state)

    def publish_path(self, key: str, tensors: Mapping[str, "Tensor"], **scalars: Any) -> str:
        """Publish the points of an optimised path; returns the object's name."""
        data = encode_tensors(tensors, scalars)
        return self._published.publish(layout.PATHS, key, "parquet", data)

    def read_path(self, name: str | None) -> dict[str, "Tensor"]:
        """The points of an optimised path.

        Args:
            name: of the object, from the record; None if the points were not kept.

        Returns:
            `points` [k, d], and the norms of gradients if they were measured.

        Raises:
            Damaged: the points were not kept, or are missing or not what was published.
        """
        return self._read(name, _decode_matrices)

    def publish_simplex(self, key: str, tensors: Mapping[str, "Tensor"], **scalars: Any) -> str:
        """Publish the points of an optimised simplex; returns the object's name."""
        data = encode_tensors(tensors, scalars)
        return self._published.publish(layout.SIMPLICES, key, "parquet", data)

    def read_simplex(self, name: str | None) -> dict[str, "Tensor"]:
        """The points of an optimised simplex; arguments and errors as for `read_path`."""
        return self._read(name, _decode_matrices)

    def publish_saddle(self, key: str, tensors: Mapping[str, "Tensor"], **scalars: Any) -> str:
        """Publish a path that was led over saddles, and the saddles; returns the object's name."""
        data = encode_tensors(tensors, scalars)
        return self._published.publish(layout.SADDLES, key, "parquet", data)

    def read_saddle(self, name: str | None) -> dict[str, "Tensor"]:
        """The path and its saddles; arguments and errors as for `read_path`."""
        return self._read(name, _decode_matrices)

    def publish_checkpoint(
        self,
        key: str,
        epoch: int,
        tensors: Mapping[str, "Tensor"],
        scalars: Mapping[str, Any],
        *,
        passes: int | None = None,
    ) -> None:
        """Publish the state of an unfinished task, then delete all but the newest `KEPT_CHECKPOINTS`.

        Args:
            key: of the task, or the lineage of a path.
            epoch: number of steps done; see `Checkpoint.epoch`.
            tensors, scalars: the state.
            passes: for a curve that is trained before the first epoch, its passes over the data so far.
        """
        folder = layout.checkpoint_folder(key)
        data = encode_tensors(tensors, scalars)
        self.checkpoint_bytes += len(data)
        self._published.publish(folder, layout.checkpoint_stem(epoch, passes), "parquet", data)
        self._published.delete(self._published.names(folder)[:-KEPT_CHECKPOINTS])

    def latest_checkpoint(self, key: str, *, at_most: int | None = None) -> Checkpoint | None:
        """The newest readable checkpoint; None if there is none. Damaged ones are noted and skipped.

        Args:
            key: of the task, or the lineage of a path.
            at_most: ignore checkpoints of later epochs.
        """
        for name in reversed(self._published.names(layout.checkpoint_folder(key))):
            if at_most is not None and name.number > at_most:
                continue
            try:
                tensors, scalars = self._published.read(name, decode_tensors)
            except (Damaged, NotFound):
                continue
            return Checkpoint(name.number, tensors, scalars)
        return None

    def drop_checkpoints(self, key: str) -> None:
        """Delete all checkpoints of a task."""
        self._published.delete(self._published.names(layout.checkpoint_folder(key)))

    def checkpointed(self) -> list[str]:
        """Keys and lineages for which there are checkpoints, sorted."""
        names = self._published.names(layout.CHECKPOINTS)
        return sorted({name.folder.removeprefix(f"{layout.CHECKPOINTS}/") for name in names})

    def _read(self, name: str | None, decode: Callable[[bytes], T]) -> T:
        if not name:
            raise Damaged("the object of a task is not in the store: its points were not kept")
        try:
            return self._published.read(name, decode)
        except NotFound:
            raise Damaged(f"{name} is missing from the store") from None


def _decode_matrices(data: bytes) -> dict[str, "Tensor"]:
    return decode_tensors(data)[0]


def _decode_state(data: bytes) -> dict[str, "Tensor"]:
    import safetensors.torch

    try:
        state: dict[str, Tensor] = safetensors.torch.load(data)
        return state
    except safetensors.SafetensorError as error:
        raise SchemaError(f"it is not readable as safetensors ({error})") from None
