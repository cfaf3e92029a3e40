"""The loss of a network that computes its own loss."""

from dataclasses import dataclass

from torch import Tensor

from topo_core.objectives.losses.base import PerExampleLoss


@dataclass(frozen=True)
class OutputLoss(PerExampleLoss):
    """The outputs are the losses: [n] or [n, 1] for n examples. Targets are not used."""

    def values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Values [n].

        Raises:
            ValueError: there is not one output per example.
        """
        del targets
        values = outputs[:, 0] if outputs.ndim == 2 and outputs.shape[1] == 1 else outputs
        if values.ndim != 1:
            raise ValueError(
                f"loss outputs takes one output an example, of shape [n]; the network returns "
                f"{tuple(outputs.shape)}"
            )
        return values

    def output_size(self, targets: Tensor) -> int:
        """One output per example."""
        del targets
        return 1
