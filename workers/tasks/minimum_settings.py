"""How a minimum is trained: the numbers, apart from the training (`workers.execution.training`)."""

import math
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from topo_core.paths.schedules import Schedule
from topo_core.paths.update_settings import OptimizerSettings


@dataclass(frozen=True)
class MinimumSettings:
    """How a minimum is trained.

    Attributes:
        epochs: at most so many passes over the training set.
        batch_size: examples in a minibatch.
        optimizer: adam, sgd or momentum. The paper trains fully connected networks with Adam and
            ResNets with momentum.
        schedule: of the learning rate; None for a final annealing of the second half.
        l2: weight decay, added to gradients and to no reported loss. The paper has none here.
        stop_loss: stop after an epoch whose mean minibatch loss is this low; None: never.
        checkpoint_every: epochs between two checkpoints.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    epochs: int = 60
    batch_size: int = 256
    optimizer: OptimizerSettings = OptimizerSettings(name="adam", lr=1e-3)
    schedule: Schedule = Schedule("anneal")
    l2: float = 0.0
    stop_loss: float | None = None
    checkpoint_every: int = 10

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "checkpoint_every"):
            value = getattr(self, name)
            if value < 1:
                raise ValueError(f"{name} is {value}; it must be 1 or more.")
        if not (math.isfinite(self.l2) and self.l2 >= 0):
            raise ValueError(f"l2 is {self.l2}; it must be a finite number, 0 or more.")
        if self.optimizer.name == "secant":
            raise ValueError(
                "optimizer.name is 'secant', which needs exact gradients; choose adam, sgd or "
                "momentum for training."
            )
        if self.stop_loss is not None and not self.stop_loss > 0:
            raise ValueError(f"stop_loss is {self.stop_loss}; it must be above 0, or left out.")

    def payload(self) -> dict[str, Any]:
        """What the result depends on: where the checkpoints lie does not change it."""
        return {k: v for k, v in asdict(self).items() if k != "checkpoint_every"}
