"""The task that optimises a simplex, and its settings."""

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from topo_core.paths.setting_checks import check_count
from topo_core.simplices.settings import SimplexSettings
from workers.tasks.keys import digest
from workers.tasks.problem import Problem
from workers.tasks.task import Task


@dataclass(frozen=True)
class SimplexTaskSettings(SimplexSettings):
    """`SimplexSettings`, and the size of minibatches.

    A measurement evaluates hundreds of points on the whole training set, so by default there are fewer
    measurements, on a coarser grid.
    """

    epochs: int | None = 50
    l2: float = 1e-5
    grid: int = 2
    evaluate_every: int = 25
    height_tolerance: float = 1e-3
    batch_size: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("batch_size", self.batch_size, 1)

    def payload(self) -> dict[str, Any]:
        """The settings that the result depends on."""
        return asdict(self)


@dataclass(frozen=True)
class OptimizeSimplex(Task):
    """Initialise an r-simplex from its optimised faces, and optimise its interior (section 1.4).

    Attributes:
        vertices: indices of the r + 1 minima in the run.
        minima: keys of the minima, in the order of `vertices`.
        faces: keys of the paths (r = 2) or simplices (r > 2) that are its faces, in the order of
            `itertools.combinations(vertices, r)`.
        seed: of the run.
    """

    noun = "simplex"

    problem: Problem
    settings: SimplexTaskSettings
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
