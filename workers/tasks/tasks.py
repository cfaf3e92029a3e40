"""What can be asked of a worker, and the key that names each answer.

A task is a frozen value. Its key is a hash over everything that decides the result, so the same
question always has the same name: a run that is started again, grown, or told to reuse another run
finds what is already answered by comparing names. Two things are left out on purpose: the index of a
minimum in its run (another run may number it differently), and how the arithmetic is carried out
(strategy, threads), which moves only the last bits and is fixed once for a run. Gradients in less than
float32 move more than that: their results have keys of their own.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

from topo_core.objectives.precision import Precision
from topo_core.paths.settings import PathSettings
from topo_core.simplices.settings import SimplexSettings
from workers.tasks.minimum_settings import MinimumSettings
from workers.tasks.specs import DataSpec, LossSpec, NetworkSpec

KEY_LENGTH = 32
"""Hex digits of a key: 128 bits."""

RESULTS_VERSION = 4
"""Raised when the meaning of a result changes, so that older results are not taken for newer ones."""


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

    The fingerprints stand for what the names cannot say: the bytes of the data and, for a user's
    `module:callable`, the source of that module.

    Attributes:
        precision: of gradients (`topo_core.objectives.precision`). Rounded ones lead elsewhere.
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
    """`PathSettings` and what only a worker needs to know: minibatches, checkpoints, other runs.

    Attributes:
        warm_from: folder or URL of the run whose paths `start: warm` goes on from.
    """

    epochs: int | None = 100
    l2: float = 1e-5
    batch_size: int = 256
    checkpoint_every: int = 10
    warm_from: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("batch_size", "checkpoint_every"):
            value = getattr(self, name)
            if value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        if self.start == "warm" and self.warm_from is None:
            raise ValueError("start is 'warm', which needs warm_from: the folder or URL of a run")
        if self.start != "warm" and self.warm_from is not None:
            raise ValueError(
                f"warm_from is {self.warm_from!r} but start is {self.start!r}; only warm reads it"
            )

    @cached_property
    def families(self) -> dict[tuple[str, int], str]:
        """The `path_family` of each problem's key and seed that was asked for."""
        return {}

    def payload(self) -> dict[str, Any]:
        """What the result depends on: where the checkpoints lie does not change it."""
        left_out = {"checkpoint_every"} | ({"warm_from"} if self.warm_from is None else set())
        return {k: v for k, v in asdict(self).items() if k not in left_out}


@dataclass(frozen=True)
class SimplexWork(SimplexSettings):
    """`SimplexSettings` and what only a worker needs to know.

    A measurement evaluates hundreds of places on the whole training set, so there are fewer of them.
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
            value = getattr(self, name)
            if value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")

    def payload(self) -> dict[str, Any]:
        return {k: v for k, v in asdict(self).items() if k != "checkpoint_every"}


@dataclass(frozen=True)
class TrainMinimum:
    """Train the network from the initial weights that (seed, index) draws."""

    problem: Problem
    settings: MinimumSettings
    index: int
    seed: int

    @cached_property
    def key(self) -> str:
        return digest("train", self.problem.key, self.settings.payload(), self.index, self.seed)

    @property
    def depends_on(self) -> tuple[str, ...]:
        return ()


@dataclass(frozen=True)
class ImportMinimum:
    """Take a minimum from a checkpoint that the user brought, and measure it.

    `content` is the SHA-256 of the file: the same weights under another name are the same minimum.
    """

    problem: Problem
    index: int
    location: str
    content: str

    @cached_property
    def key(self) -> str:
        return digest("import", self.problem.key, self.content)

    @property
    def depends_on(self) -> tuple[str, ...]:
        return ()


@dataclass(frozen=True)
class DescendMinimum:
    """Train on from a dip inside a finished path, to a minimum that nobody had trained."""

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
    def depends_on(self) -> tuple[str, ...]:
        return (self.path,)


Minimum = TrainMinimum | ImportMinimum | DescendMinimum


@dataclass(frozen=True)
class OptimizePath:
    """Join two minima by a path and push it down (section 1.2, Algorithm 2)."""

    problem: Problem
    settings: PathWork
    i: int
    j: int
    a: str
    b: str
    seed: int
    goes_on: bool = False
    """Whether the same path may be asked for with more epochs: then the state from which they could go
    on is kept."""
    via: tuple[str, ...] = ()
    """Paths from `a` to `b` whose concatenation it starts from (`start: through`)."""

    @cached_property
    def key(self) -> str:
        key = path_key(path_family(self.problem, self.settings, self.seed), self.a, self.b)
        return digest("through", key, self.via) if self.via else key

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
    def depends_on(self) -> tuple[str, ...]:
        return (self.a, self.b, *self.via)


@dataclass(frozen=True)
class OptimizeSimplex:
    """Span an r-simplex by its optimised faces and push its interior down (section 1.4)."""

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
    def depends_on(self) -> tuple[str, ...]:
        return (*self.minima, *self.faces)


Task = Minimum | OptimizePath | OptimizeSimplex


def path_family(problem: Problem, settings: PathWork, seed: int) -> str:
    """What the keys of all paths of one run have in common; hashed once for half a million pairs."""
    known, common = settings.families, (problem.key, seed)
    if common not in known:
        known[common] = digest("path", problem.key, settings.payload(), seed)
    return known[common]


def path_key(family: str, a: str, b: str) -> str:
    return hashlib.sha256(f"{family}:{a}:{b}".encode()).hexdigest()[:KEY_LENGTH]
