"""The loss that all tasks of a run share, and the part of their keys that identifies it."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from topo_core.objectives.precision import Precision
from workers.tasks.keys import RESULTS_VERSION, digest
from workers.tasks.specs import DataSpec, LossSpec, NetworkSpec

DType = Literal["float32", "float64"]
"""Of data and parameters."""


@dataclass(frozen=True)
class FixedState:
    """Frozen parameters and buffers of a network that no minimum changes, and where they are.

    Attributes:
        location: a checkpoint that holds them.
        digest: of their names and bytes.
    """

    location: str
    digest: str


@dataclass(frozen=True)
class Problem:
    """The loss: one network on one data set.

    The fingerprints identify what the names do not: the bytes of the data and, for a user's
    `module:callable`, the source of that module.

    Attributes:
        precision: of gradients (`topo_core.objectives.precision`); rounded gradients lead to
            other results.
    """

    network: NetworkSpec
    data: DataSpec
    data_fingerprint: str
    network_fingerprint: str
    precision: Precision = "float32"
    loss: LossSpec = LossSpec()
    loss_fingerprint: str = ""
    fixed: FixedState | None = None
    dtype: DType = "float32"

    @cached_property
    def key(self) -> str:
        rounded = () if self.precision == "float32" else (self.precision,)
        others: dict[str, Any] = {}
        if self.loss != LossSpec():
            others["loss"] = [self.loss.canonical(), self.loss_fingerprint]
        if self.fixed is not None:
            others["fixed"] = self.fixed.digest
        if self.dtype != "float32":
            others["dtype"] = self.dtype
        return digest(
            "problem",
            RESULTS_VERSION,
            self.network.canonical(),
            self.network_fingerprint,
            self.data_fingerprint,
            *rounded,
            *((others,) if others else ()),
        )
