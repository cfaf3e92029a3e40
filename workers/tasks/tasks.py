"""The tasks of a worker, and the key that names the result of each.

A task is a frozen value. Its key is a hash of everything that decides the result, so equal tasks have
equal keys: a run that is started again, enlarged, or reuses another run finds existing results by
comparing keys. Two things are left out on purpose: the index of a minimum in its run (another run may
number it differently), and how the arithmetic is carried out (strategy, threads), which changes only the
last bits and is fixed once for a run. Gradients in less than float32 change more than that: their
results have keys of their own.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from topo_core.objectives.precision import Precision
from topo_core.paths.setting_checks import check_count
from topo_core.paths.settings import PathSettings
from topo_core.simplices.settings import SimplexSettings
from workers.tasks.minimum_settings import MinimumSettings
from workers.tasks.specs import DataSpec, LossSpec, NetworkSpec

KEY_LENGTH = 32
"""Hex digits of a key: 128 bits."""

RESULTS_VERSION = 4
"""Increased when the meaning of a result changes, so that older results are not taken for newer ones."""


DType = Literal["float32", "float64"]
"""Of data and parameters."""


def digest(*parts: Any) -> str:
    """Hash of JSON-able parts, as `KEY_LENGTH` hex digits; independent of the order of dict keys."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]


@dataclass(frozen=True)
class FixedState:
    """Frozen parameters and buffers of a network that no minimum changes, and where they are.

    Attributes:
        location: a checkpoint that holds them.
        digest: of their names and bytes.
    """

    location: str
    digest: str


@dataclass(frozen=True)
class Problem:
    """The loss: one network on one data set.

    The fingerprints identify what the names do not: the bytes of the data and, for a user's
    `module:callable`, the source of that module.

    Attributes:
        precision: of gradients (`topo_core.objectives.precision`); rounded gradients lead to
            other results.
    """

    network: NetworkSpec
    data: DataSpec
    data_fingerprint: str
    network_fingerprint: str
    precision: Precision = "float32"
    loss: LossSpec = LossSpec()
    loss_fingerprint: str = ""
    fixed: FixedState | None = None
    dtype: DType = "float32"

    @cached_property
    def key(self) -> str:
        rounded = () if self.precision == "float32" else (self.precision,)
        others: dict[str, Any] = {}
        if self.loss != LossSpec():
            others["loss"] = [self.loss.canonical(), self.loss_fingerprint]
        if self.fixed is not None:
            others["fixed"] = self.fixed.digest
        if self.dtype != "float32":
            others["dtype"] = self.dtype
        return digest(
            "problem",
            RESULTS_VERSION,
            self.network.canonical(),
            self.network_fingerprint,
            self.data_fingerprint,
            *rounded,
            *((others,) if others else ()),
        )


@dataclass(frozen=True)
class PathWork(PathSettings):
    """`PathSettings`, and settings of the worker: minibatches, checkpoints, other runs.

    Attributes:
        warm_from: folder or URL of the run whose paths `start: warm` continues.
    """

    epochs: int | None = 100
    l2: float = 1e-5
    batch_size: int = 256
    checkpoint_every: int = 10
    warm_from: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("batch_size", "checkpoint_every"):
            check_count(name, getattr(self, name), 1)
        if self.start == "warm" and self.warm_from is None:
            raise ValueError("start is 'warm', which needs warm_from: the folder or URL of a run")
        if self.start != "warm" and self.warm_from is not None:
            raise ValueError(
                f"warm_from is {self.warm_from!r} but start is {self.start!r}; only warm reads it"
            )

    def payload(self) -> dict[str, Any]:
        """The settings that the result depends on, without `warm_from` where it is None."""
        left_out = {"checkpoint_every"} | ({"warm_from"} if self.warm_from is None else set())
        return {k: v for k, v in asdict(self).items() if k not in left_out}


@dataclass(frozen=True)
class SimplexWork(SimplexSettings):
    """`SimplexSettings`, and settings of the worker: minibatches and checkpoints.

    A measurement evaluates hundreds of points on the whole training set, so by default there are fewer
    measurements, on a coarser grid.
    """

    epochs: int | None = 50
    l2: float = 1e-5
    grid: int = 2
    evaluate_every: int = 25
    height_tolerance: float = 1e-3
    batch_size: int = 256
    checkpoint_every: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("batch_size", "checkpoint_every"):
            check_count(name, getattr(self, name), 1)

    def payload(self) -> dict[str, Any]:
        return {k: v for k, v in asdict(self).items() if k != "checkpoint_every"}


@dataclass(frozen=True, kw_only=True)
class Task:
    """Base of all tasks.

    Attributes:
        objects: names in the store of the objects of `depends_on`, in that order. The driver fills them in
            when it hands the task out; they are no part of the key.
    """

    noun: ClassVar[str]
    """Name of the result in logs and metrics: minimum, path, simplex, ..."""

    objects: tuple[str, ...] = field(default=(), compare=False)

    if TYPE_CHECKING:  # at run time it would become the default of the field `problem` of a kind

        @property
        def problem(self) -> Problem:
            """The loss."""

    @property
    def key(self) -> str:
        """Hash of everything that decides the result."""
        raise NotImplementedError

    @property
    def title(self) -> str:
        """The name of the task in messages."""
        raise NotImplementedError

    @property
    def depends_on(self) -> tuple[str, ...]:
        """Keys of the tasks whose results this one reads."""
        return ()

    def with_objects(self, names: Mapping[str, str]) -> Self:
        """The task with the names of the objects that it reads.

        Args:
            names: of objects, by the key of the task that made them. One that is missing stays empty, and
                reading it fails as a damaged object does.
        """
        return replace(self, objects=tuple(names.get(key, "") for key in self.depends_on))

    def object_of(self, key: str) -> str:
        """Name of the object of one of `depends_on`; empty if it is not known."""
        return dict(zip(self.depends_on, self.objects, strict=False)).get(key, "")


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


Minimum = TrainMinimum | ImportMinimum | DescendMinimum


@dataclass(frozen=True)
class PathFamily:
    """What all paths of one rung of a run have in common.

    Keys of paths are computed here and nowhere else; the common part is hashed once for half a million
    pairs.
    """

    problem: Problem
    settings: PathWork
    seed: int

    @cached_property
    def key(self) -> str:
        return digest("path", self.problem.key, self.settings.payload(), self.seed)

    def path_key(self, a: str, b: str, via: tuple[str, ...] = ()) -> str:
        """Key of the path between the minima with the keys `a` and `b`, begun through the paths `via`."""
        key = hashlib.sha256(f"{self.key}:{a}:{b}".encode()).hexdigest()[:KEY_LENGTH]
        return digest("through", key, via) if via else key


@dataclass(frozen=True)
class OptimizePath(Task):
    """Join two minima by a path and optimise it (section 1.2, Algorithm 2)."""

    noun = "path"

    family: PathFamily
    i: int
    j: int
    a: str
    b: str
    goes_on: bool = False
    """Whether a later task may optimise the same path for more epochs: then a state is kept from which it
    continues."""
    via: tuple[str, ...] = ()
    """Paths from `a` to `b` whose concatenation it starts from (`start: through`)."""

    @property
    def problem(self) -> Problem:
        return self.family.problem

    @property
    def settings(self) -> PathWork:
        return self.family.settings

    @property
    def seed(self) -> int:
        return self.family.seed

    @cached_property
    def key(self) -> str:
        return self.family.path_key(self.a, self.b, self.via)

    @cached_property
    def lineage(self) -> str:
        """The key without the number of epochs.

        A path optimised for 100 epochs begins as the same path optimised for 200, up to where the rates
        look ahead to the end (`Resolved.depends_on_epochs_from`).
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


@dataclass(frozen=True)
class OptimizeSimplex(Task):
    """Span an r-simplex by its optimised faces and optimise its interior (section 1.4)."""

    noun = "simplex"

    problem: Problem
    settings: SimplexWork
    vertices: tuple[int, ...]
    minima: tuple[str, ...]
    faces: tuple[str, ...]
    seed: int

    @cached_property
    def key(self) -> str:
        return digest(
            "simplex", self.problem.key, self.settings.payload(), self.seed, self.minima, self.faces
        )

    @property
    def title(self) -> str:
        return f"simplex {'–'.join(map(str, self.vertices))}"

    @property
    def depends_on(self) -> tuple[str, ...]:
        return (*self.minima, *self.faces)


@dataclass(frozen=True)
class RefineSaddle(Task):
    """Follow the peak of a finished path to a saddle, and descend from it on both sides.

    Attributes:
        path: key of the path.
        a, b: keys of the minima that the path joins.
        others: keys of further minima at which a descent may end. They are no part of the key: the record
            keeps the ends of the descents, whichever minima are known.
        seed: of the random directions.
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

    @cached_property
    def key(self) -> str:
        return digest("saddle", self.problem.key, self.path, self.seed)

    @property
    def title(self) -> str:
        return f"saddle of path {self.i}–{self.j}"

    @property
    def depends_on(self) -> tuple[str, ...]:
        return (self.path, self.a, self.b, *self.others)
