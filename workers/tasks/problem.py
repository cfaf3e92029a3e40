"""The loss that all tasks of a run share, and the part of their keys that identifies it."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from topo_core.objectives.precision import Precision
from workers.tasks.keys import RESULTS_VERSION, digest
from workers.tasks.specs import DataSpec, LossSpec, NetworkSpec

DType = Literal["float32", "float64"]
"""The dtype of data and parameters."""


@dataclass(frozen=True)
class FixedState:
    """The frozen parameters and the buffers of a network: they are equal for all minima of a run.

    Attributes:
        location: of the checkpoint that they are read from.
        digest: SHA-256 of their names, shapes, dtypes and bytes.
    """

    location: str
    digest: str


@dataclass(frozen=True)
class Problem:
    """The loss that a run studies: one network, one data set and one loss function.

    Attributes:
        network, data, loss: their names and options.
        data_fingerprint: SHA-256 of the data.
        network_fingerprint, loss_fingerprint: identify the code of a user's `module:callable`; for a
            network of torchvision, its version.
        precision: of gradients (`topo_core.objectives.precision`). It is part of the key if it is below
            float32, because rounded gradients lead to other results.
        fixed: frozen parameters and buffers from a checkpoint; None where the network's own are used.
        dtype: of data and parameters.
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
