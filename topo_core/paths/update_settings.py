"""Which update rule moves the points, and its numbers; the rules themselves are in `updates`."""

from dataclasses import dataclass
from typing import Any, ClassVar

from topo_core.paths.setting_checks import check_number
from topo_core.paths.updates.registry import UPDATES


@dataclass(frozen=True)
class OptimizerSettings:
    """How displacements follow from gradients.

    Attributes:
        name: the update rule, a name of `updates.registry`.
        lr: the base learning rate; ``secant`` does not use it, and ``scaled_adam`` takes it relative to
            spacings.
        momentum: factor on the velocity, used by ``momentum``.
        betas: decay rates of the averages, used by ``adam``, ``scaled_adam`` and ``lion``.
        eps: added to the denominator by ``adam``.

    Raises:
        ValueError: a value is not allowed; the message names the key and the value.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    name: str = "sgd"
    lr: float = 0.05
    momentum: float = 0.9
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    def __post_init__(self) -> None:
        UPDATES.check("optimizer.name", self.name)
        check_number("optimizer.lr", self.lr, positive=True)
        check_number("optimizer.eps", self.eps, positive=True)
        for key, value in (("momentum", self.momentum), *(("betas", b) for b in self.betas)):
            check_number(f"optimizer.{key}", value, positive=False)
            if value >= 1:
                raise ValueError(
                    f"optimizer.{key} has the value {value}; it must be at least 0 and below 1."
                )
