"""Tasks that give a minimum: by training, from a checkpoint, a dip inside a path, or below a saddle."""

from dataclasses import dataclass
from functools import cached_property

from workers.tasks.keys import digest
from workers.tasks.minimum_settings import MinimumSettings
from workers.tasks.problem import Problem
from workers.tasks.task import Task


@dataclass(frozen=True)
class TrainMinimum(Task):
    """Train the network from the initial weights that (seed, index) draws."""

    noun = "minimum"

    problem: Problem
    settings: MinimumSettings
    index: int
    seed: int

    @cached_property
    def key(self) -> str:
        return digest("train", self.problem.key, self.settings.payload(), self.index, self.seed)

    @property
    def title(self) -> str:
        return f"minimum {self.index}"


@dataclass(frozen=True)
class ImportMinimum(Task):
    """Take a minimum from a checkpoint of the user, and measure it.

    `content` is the SHA-256 of the file: equal files under two names are the same minimum.
    """

    noun = "minimum"

    problem: Problem
    index: int
    location: str
    content: str

    @cached_property
    def key(self) -> str:
        return digest("import", self.problem.key, self.content)

    @property
    def title(self) -> str:
        return f"minimum {self.index} (imported)"


@dataclass(frozen=True)
class DescendMinimum(Task):
    """Train from a dip inside a finished path to a minimum that no task had trained."""

    noun = "minimum"

    problem: Problem
    settings: MinimumSettings
    index: int
    path: str
    position: float
    """Of the dip: a fraction of the path's arc length."""
    seed: int

    @cached_property
    def key(self) -> str:
        return digest(
            "descend",
            self.problem.key,
            self.settings.payload(),
            self.path,
            self.position,
            self.seed,
        )

    @property
    def title(self) -> str:
        return f"minimum {self.index} (from a dip in a path)"

    @property
    def depends_on(self) -> tuple[str, ...]:
        return (self.path,)


@dataclass(frozen=True)
class SaddleMinimum(Task):
    """Polish the end of a descent from a saddle to a minimum that no task had trained.

    Attributes:
        saddle: key of the task that reached the saddle.
        end: number of the descent among those of all its saddles.
    """

    noun = "minimum"

    problem: Problem
    settings: MinimumSettings
    index: int
    saddle: str
    end: int
    seed: int

    @cached_property
    def key(self) -> str:
        return digest(
            "below", self.problem.key, self.settings.payload(), self.saddle, self.end, self.seed
        )

    @property
    def title(self) -> str:
        return f"minimum {self.index} (below a saddle)"

    @property
    def depends_on(self) -> tuple[str, ...]:
        return (self.saddle,)


@dataclass(frozen=True)
class RestartMinimum(Task):
    """Train from a checkpoint of the user whose weights are changed at random.

    Attributes:
        location: of the checkpoint.
        content: SHA-256 of the file.
        spread: standard deviation of the change, in root mean squares of each parameter tensor; 0 continues
            from the checkpoint as it is.
        number: of the restart, which decides the random change.
        seed: of the run.
    """

    noun = "minimum"

    problem: Problem
    settings: MinimumSettings
    index: int
    location: str
    content: str
    spread: float
    number: int
    seed: int

    @cached_property
    def key(self) -> str:
        return digest(
            "restart",
            self.problem.key,
            self.settings.payload(),
            self.content,
            self.spread,
            self.number,
            self.seed,
        )

    @property
    def title(self) -> str:
        return f"minimum {self.index} (restart from {self.location})"


Minimum = TrainMinimum | ImportMinimum | DescendMinimum | SaddleMinimum | RestartMinimum
