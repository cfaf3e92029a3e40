"""How a minimum is trained: the settings of `workers.execution.training` and of the polish after it."""

import math
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

from topo_core.paths.schedules import Schedule
from topo_core.paths.setting_checks import check_count
from topo_core.paths.update_settings import OptimizerSettings


@dataclass(frozen=True)
class MinimumSettings:
    """How a minimum is trained.

    Attributes:
        epochs: largest number of passes over the training set; 0 for a polish alone.
        batch_size: examples in a minibatch.
        optimizer: adam, sgd or momentum. The paper trains fully connected networks with Adam and
            ResNets with momentum.
        schedule: of the learning rate; None for a final annealing of the second half.
        l2: weight decay, added to gradients and to no reported loss. The paper has none here.
        stop_loss: stop after an epoch whose mean minibatch loss is this low; None: never.
        polish: whether training continues, with exact gradients, to a stationary point: `on`, `off`, `small`
            (where the problem is small, `workers.execution.stationarity`), or `auto` (where it is small and
            the loss has a ridge).
        gradient_tolerance: gradient norm up to which a point counts as stationary; None for a tolerance
            that follows from the rounding of float64.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    epochs: int = 60
    batch_size: int = 256
    optimizer: OptimizerSettings = OptimizerSettings(name="adam", lr=1e-3)
    schedule: Schedule = Schedule("anneal")
    l2: float = 0.0
    stop_loss: float | None = None
    polish: Literal["auto", "small", "on", "off"] = "auto"
    gradient_tolerance: float | None = None

    def __post_init__(self) -> None:
        check_count("epochs", self.epochs, 0)
        check_count("batch_size", self.batch_size, 1)
        if not (math.isfinite(self.l2) and self.l2 >= 0):
            raise ValueError(f"l2 is {self.l2}; it must be a finite number, 0 or more.")
        if self.optimizer.name == "secant":
            raise ValueError(
                "optimizer.name is 'secant', which needs exact gradients; choose adam, sgd or "
                "momentum for training."
            )
        if self.polish not in ("auto", "small", "on", "off"):
            raise ValueError(f"polish is {self.polish!r}; choose auto, small, on or off.")
        tolerance = self.gradient_tolerance
        if tolerance is not None and not (math.isfinite(tolerance) and tolerance > 0):
            raise ValueError(
                f"gradient_tolerance is {tolerance}; it must be a finite number above 0, or left out."
            )
        if self.stop_loss is not None and not self.stop_loss > 0:
            raise ValueError(f"stop_loss is {self.stop_loss}; it must be above 0, or left out.")

    def payload(self) -> dict[str, Any]:
        """The settings that the result depends on."""
        return asdict(self)
