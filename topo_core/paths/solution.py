"""The result of the optimisation of a path."""

from dataclasses import dataclass

from torch import Tensor

from topo_core.paths.convergence import Evidence, Outcome
from topo_core.paths.profiles import Profile
from topo_core.paths.state import EpochRecord
from topo_core.paths.verified_pass import VerifiedPass


@dataclass(frozen=True)
class PathSolution:
    """An optimised path.

    Attributes:
        points: [k, d], the path with the lowest dense maximum, ends included.
        profile: the losses along it; ``profile.maximum`` is its height.
        outcome: see ``Outcome``.
        evidence: the measurements from which the outcome follows, and a sentence that explains it.
        history: measurements, oldest first.
        gradient_evaluations: number of rows whose gradient was evaluated.
        verified: the verification of the highest point; None if nothing was proved about it.
    """

    points: Tensor
    profile: Profile
    outcome: Outcome
    evidence: Evidence
    history: tuple[EpochRecord, ...]
    gradient_evaluations: int
    verified: VerifiedPass | None = None
