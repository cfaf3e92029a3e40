"""The task that optimises a path between two minima, and its settings."""

import hashlib
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from topo_core.paths.setting_checks import check_count
from topo_core.paths.settings import PathSettings
from workers.tasks.keys import KEY_LENGTH, digest
from workers.tasks.problem import Problem
from workers.tasks.task import Task


@dataclass(frozen=True)
class PathTaskSettings(PathSettings):
    """`PathSettings`, and settings of the worker: minibatches, other runs.

    Attributes:
        warm_from: folder or URL of the run whose paths `start: warm` and `start: moved` continue.
    """

    epochs: int | None = 100
    l2: float = 1e-5
    batch_size: int = 256
    warm_from: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("batch_size", self.batch_size, 1)
        continues = self.start in ("warm", "moved")
        if continues and self.warm_from is None:
            raise ValueError(
                f"start is {self.start!r}, which needs warm_from: the folder or URL of a run"
            )
        if not continues and self.warm_from is not None:
            raise ValueError(
                f"warm_from is {self.warm_from!r} but start is {self.start!r}; only warm and moved read it"
            )

    def payload(self) -> dict[str, Any]:
        """The settings that the result depends on, without `warm_from` where it is None."""
        settings = asdict(self)
        if self.warm_from is None:
            del settings["warm_from"]
        return settings


@dataclass(frozen=True)
class PathFamily:
    """What all paths of a run with the same number of epochs have in common: problem, settings and seed.

    Only this class computes keys of paths. It hashes the common part once, because a run may have half a
    million pairs.
    """

    problem: Problem
    settings: PathTaskSettings
    seed: int

    @cached_property
    def key(self) -> str:
        return digest("path", self.problem.key, self.settings.payload(), self.seed)

    def path_key(self, a: str, b: str, via: tuple[str, ...] = ()) -> str:
        """Key of the path between the minima with the keys `a` and `b`.

        Args:
            a, b: keys of the minima.
            via: keys of the paths whose concatenation is the initial path; empty for any other start.
        """
        key = hashlib.sha256(f"{self.key}:{a}:{b}".encode()).hexdigest()[:KEY_LENGTH]
        return digest("through", key, via) if via else key


@dataclass(frozen=True)
class OptimizePath(Task):
    """Join two minima by a path and optimise it (section 1.2, Algorithm 2).

    Attributes:
        family: the problem, the settings and the seed.
        i, j: indices of the minima in the run.
        a, b: keys of the minima.
    """

    noun = "path"

    family: PathFamily
    i: int
    j: int
    a: str
    b: str
    goes_on: bool = False
    """Whether a later task may optimise the same path for more epochs. Then a checkpoint is kept from which
    that task can continue."""
    via: tuple[str, ...] = ()
    """Keys of paths whose concatenation, from `a` to `b`, is the initial path (`start: through`)."""

    @property
    def problem(self) -> Problem:
        return self.family.problem

    @property
    def settings(self) -> PathTaskSettings:
        return self.family.settings

    @property
    def seed(self) -> int:
        return self.family.seed

    @cached_property
    def key(self) -> str:
        return self.family.path_key(self.a, self.b, self.via)

    @cached_property
    def lineage(self) -> str:
        """A key that does not depend on the number of epochs.

        The first epochs of a path that is optimised for 100 epochs are equal to those of the same path
        optimised for 200, up to the first epoch that depends on the total number of epochs
        (`ResolvedSettings.depends_on_epochs_from`). So the longer task can continue from a checkpoint of the
        shorter.
        """
        settings = self.settings.payload()
        settings.pop("epochs")
        return digest("lineage", self.problem.key, settings, self.seed, self.a, self.b, self.via)

    @property
    def title(self) -> str:
        return f"path {self.i}–{self.j}"

    @property
    def depends_on(self) -> tuple[str, ...]:
        return (self.a, self.b, *self.via)
