"""Optimised r-simplices (section 1.4)."""

from dataclasses import dataclass
from typing import Any, ClassVar

from topo_core.optimizers import OptimizerSettings
from topo_core.schedule import Schedule


@dataclass(frozen=True)
class SimplexSettings:
    """How the interior of a simplex is optimised."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    subdivisions: int = 6
    epochs: int = 50
    optimizer: OptimizerSettings = OptimizerSettings()
    schedule: Schedule = Schedule("anneal")
    l2: float = 1e-5
