"""The protocol of strategies, which evaluate k copies of a network at once."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from topo_core.objectives.flat_parameters import ParameterLayout
from topo_core.objectives.losses.protocol import Loss
from topo_core.objectives.precision import Precision


@dataclass(frozen=True)
class Network:
    """A network, the layout of its parameters in a row, and a loss of its outputs."""

    module: nn.Module
    layout: ParameterLayout
    loss: Loss

    @classmethod
    def of(cls, module: nn.Module, loss: Loss) -> "Network":
        """A network with rows of all its trainable parameters."""
        return cls(module, ParameterLayout.of(module), loss)


@dataclass(frozen=True)
class EvaluationContext:
    """The device, data and precision of an evaluation, which decide the possible strategies.

    Attributes:
        device: the kind of device: cpu or cuda.
        inputs, targets: examples [n, ...]; only their shapes and dtypes matter.
        precision: of the gradients.
    """

    device: str
    inputs: Tensor
    targets: Tensor
    precision: Precision = "float32"


class Evaluator(Protocol):
    """Evaluates k copies of a network at once."""

    def gradients(self, points: Tensor, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Mean losses [k] and gradients [k, d] of `points` [k, d] on a batch."""

    def gradients_of_paths(
        self, points: Tensor, inputs: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Mean losses [p, m] and gradients [p, m, d] of `points` [p, m, d].

        `inputs` [p, b, ...] and `targets` [p, b, ...]: the batch of each path.
        """

    def outputs(
        self, points: Tensor, inputs: Tensor, buffers: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Outputs [k, n, ...]; `buffers` [k, ...] replace those of the module."""


class Strategy(Protocol):
    """A named method of evaluation, which makes an evaluator of each network.

    Attributes:
        name: name of the strategy; it is stored with a run, so that every worker uses the same strategy.
        holds_all_points: whether the activations of all points of a call are in memory at once.
        needs_no_trial: whether the strategy was the fastest in all trials on networks that it allows, so that
            no trial is needed.
    """

    @property
    def name(self) -> str: ...

    @property
    def holds_all_points(self) -> bool: ...

    @property
    def needs_no_trial(self) -> bool: ...

    def allows(self, network: Network, situation: EvaluationContext) -> bool:
        """Whether the strategy can evaluate this network in this situation with the values of plain
        PyTorch."""

    def make(self, network: Network) -> Evaluator:
        """The evaluator of a network that the strategy allows."""
