"""The result of a start: the initial path of an optimisation."""

from dataclasses import dataclass

from torch import Tensor

from topo_core.paths.profiles import Profile
from topo_core.paths.verified_pass import VerifiedPass


@dataclass(frozen=True)
class Start:
    """An initial path.

    Attributes:
        points: [n, d].
        gradient_evaluations: number of rows whose gradient was evaluated to make the path.
        profile: the losses along the path; None if they were not measured.
        verified: the verification of the highest point; None if there is none.
        units: [d], the units of the coordinates (``coordinate_units``); None for the given coordinates.
    """

    points: Tensor
    gradient_evaluations: int = 0
    profile: Profile | None = None
    verified: VerifiedPass | None = None
    units: Tensor | None = None
