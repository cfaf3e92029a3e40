"""When and where a path gets new points (Algorithm 3): the settings of `insertion`."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

from topo_core.paths.criteria.registry import CRITERIA

Ends = Literal["fixed", "paper"]


@dataclass(frozen=True)
class Insertion:
    """When and where points are inserted.

    Attributes:
        every: epochs between two insertions.
        criterion: the measure of a segment, a name of `criteria.registry`.
        threshold: value of the criterion, D in Algorithm 3, above which a segment gets a midpoint.
        ends: ``paper`` freezes the outermost moving point at each end for every two inserted points, as
            Algorithm 3 moves them to the set B (they stay on the curve and count in its height), so
            that the number of optimised points is constant. ``fixed`` freezes none and lets the path grow.
        max_points: largest number of points of a path, where ``ends`` is ``fixed``.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    every: int = 25
    criterion: str = "distance"
    threshold: float = 1.2
    ends: Ends = "fixed"
    max_points: int = 37

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"insertion.every is {self.every}; it must be 1 epoch or more.")
        CRITERIA.check("insertion.criterion", self.criterion)
        if self.ends not in get_args(Ends):
            names = ", ".join(get_args(Ends))
            raise ValueError(f"insertion.ends is {self.ends!r}; choose one of {names}.")
        if not (math.isfinite(self.threshold) and self.threshold > 0):
            raise ValueError(
                f"insertion.threshold is {self.threshold}; it must be a finite number above 0."
            )
        if self.max_points < 3:
            raise ValueError(f"insertion.max_points is {self.max_points}; it must be 3 or more.")
