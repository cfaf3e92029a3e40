"""When and where a path gets new points (Algorithm 3): the settings of `insertion`."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

from topo_core.paths.criteria.registry import CRITERIA
from topo_core.paths.setting_checks import check_count, check_number

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
            that the number of optimised points is constant. ``fixed`` freezes none, and the path grows.
        max_points: largest number of points of a path, if ``ends`` is ``fixed``.

    Raises:
        ValueError: a value is not allowed; the message names the key, the value and what is allowed.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    every: int = 25
    criterion: str = "distance"
    threshold: float = 1.2
    ends: Ends = "fixed"
    max_points: int = 37

    def __post_init__(self) -> None:
        check_count("insertion.every", self.every, 1)
        CRITERIA.check("insertion.criterion", self.criterion)
        if self.ends not in get_args(Ends):
            names = ", ".join(get_args(Ends))
            raise ValueError(f"insertion.ends is {self.ends!r}; choose one of {names}.")
        check_number("insertion.threshold", self.threshold, positive=True)
        check_count("insertion.max_points", self.max_points, 3)
