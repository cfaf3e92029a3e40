"""The task that refines a path, aiming at a verified saddle as its highest point."""

import math
from dataclasses import dataclass
from functools import cached_property

from workers.tasks.keys import digest
from workers.tasks.problem import Problem
from workers.tasks.task import Task

SAME_LOSS = 1e-6
"""Largest relative difference between the losses of one minimum: at the end of a descent, where it stops
before the exact minimum, and at a minimum that was rounded to float32."""

SAME_DEPTH = 1e-9
"""The same difference relative to the depth below the saddle, for minima whose loss is zero."""


def are_equal_losses(first: float, second: float, *, saddle: float) -> bool:
    """Whether two losses may be those of one minimum below a saddle with the loss ``saddle``."""
    depth = abs(saddle - min(first, second))
    return math.isclose(first, second, rel_tol=SAME_LOSS, abs_tol=SAME_DEPTH * depth)


@dataclass(frozen=True)
class RefineSaddle(Task):
    """Refine a finished path (`topo_core.paths.pass_refinement`), in a limited number of rounds.

    Attributes:
        i, j: indices in the run of the minima that the path joins.
        path: key of the path.
        a, b: keys of these minima.
        others: keys of further minima that the ends of descents are compared with. They are not part of the
            key, because the object of the result holds all ends of descents, whichever minima are known.
        seed: of the random directions.
        rounds: largest number of rounds; each relaxes a piece of the path and follows one peak.
    """

    noun = "saddle"

    problem: Problem
    i: int
    j: int
    path: str
    a: str
    b: str
    others: tuple[str, ...]
    seed: int
    rounds: int = 12

    @cached_property
    def key(self) -> str:
        return digest("saddle", self.problem.key, self.path, self.seed, self.rounds)

    @property
    def title(self) -> str:
        return f"saddle of path {self.i}–{self.j}"

    @property
    def depends_on(self) -> tuple[str, ...]:
        return (self.path, self.a, self.b, *self.others)
