"""The task that leads a finished path over saddles."""

from dataclasses import dataclass
from functools import cached_property

from workers.tasks.keys import digest
from workers.tasks.problem import Problem
from workers.tasks.task import Task


@dataclass(frozen=True)
class RefineSaddle(Task):
    """Lead a finished path over saddles, until its highest point is a verified one.

    Attributes:
        path: key of the path.
        a, b: keys of the minima that the path joins.
        others: keys of further minima at which a descent may end. They are no part of the key: the record
            keeps the ends of the descents, whichever minima are known.
        seed: of the random directions.
        rounds: in each of which a piece of the path is relaxed and a peak followed, at most.
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
