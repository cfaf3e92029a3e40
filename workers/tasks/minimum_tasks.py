"""Tasks whose result is a minimum: trained, imported from a checkpoint, or reached from a path or a
saddle."""

from dataclasses import dataclass
from functools import cached_property

from workers.tasks.keys import digest
from workers.tasks.minimum_settings import MinimumSettings
from workers.tasks.problem import Problem
from workers.tasks.task import Task


@dataclass(frozen=True)
class TrainMinimum(Task):
    """Train the network from initial weights, drawn from `seed` and `index`."""

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
    """Import a minimum from a user's checkpoint, and measure it.

    Attributes:
        location: of the checkpoint.
        content: SHA-256 of the file: equal files under two names are the same minimum.
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
    """Train from a dip of a finished path: a point in its interior where the loss has a local minimum.

    Attributes:
        path: key of the task that optimised the path.
        position: of the dip, as a fraction of the path's arc length.
    """

    noun = "minimum"

    problem: Problem
    settings: MinimumSettings
    index: int
    path: str
    position: float
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
    """Polish the end of a descent from a saddle to a stationary point: a minimum that is new to the run.

    Attributes:
        saddle: key of the task that found the saddle.
        end: index of the descent among the descents from all saddles of that task, two from each saddle.
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
    """Train from a user's checkpoint after random noise was added to its weights.

    Attributes:
        location: of the checkpoint.
        content: SHA-256 of the file.
        spread: standard deviation of the noise, relative to the root mean square of each parameter tensor; 0
            starts from the checkpoint as it is.
        number: index of the restart; different restarts draw different noise. -1 for the checkpoint that is
            polished without training.
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
        how = "polished from" if self.number < 0 else "restart from"
        return f"minimum {self.index} ({how} {self.location})"


Minimum = TrainMinimum | ImportMinimum | DescendMinimum | SaddleMinimum | RestartMinimum
