"""Which update rule moves the points, and its numbers; the rules themselves are in `updates`."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from topo_core.paths.updates.registry import UPDATES


@dataclass(frozen=True)
class OptimizerSettings:
    """How displacements follow from gradients.

    Attributes:
        name: the update rule, a name of `updates.registry`.
        lr: the base learning rate; not used by ``secant``.
        momentum: of ``momentum``.
        betas: of ``adam`` and ``lion``.
        eps: of ``adam``.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    name: str = "sgd"
    lr: float = 0.05
    momentum: float = 0.9
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    def __post_init__(self) -> None:
        UPDATES.check("optimizer.name", self.name)
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise ValueError(f"optimizer.lr is {self.lr}; it must be a finite number above 0.")
        for key, value in (("momentum", self.momentum), *(("betas", b) for b in self.betas)):
            if not 0 <= value < 1:
                raise ValueError(
                    f"optimizer.{key} has the value {value}; it must be at least 0 and below 1."
                )
        if not (math.isfinite(self.eps) and self.eps > 0):
            raise ValueError(f"optimizer.eps is {self.eps}; it must be a finite number above 0.")
