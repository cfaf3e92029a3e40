"""One landscape a row: its barcodes as we compute them beside those of a grid, and the error.

Ours: descents from the centres of the wells, then ``landscape_barcodes``. The truth: GUDHI's cubical
complex on a grid, whose critical points are then followed to where the gradient vanishes. A bar that
is shorter than the ripples of the grid counts in neither.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from tests.helpers.cubical import exact_bars, nearest
from topo_core.morse.landscape_results import LandscapeSettings
from topo_core.morse.landscape_search import landscape_barcodes
from topo_core.objectives.protocol import from_function
from topo_core.paths.settings import PathSettings
from topo_core.reference_landscapes.surfaces import (
    Landscape,
    hills,
    himmelblau,
    muller_brown,
    ring_valley,
    sphere_valley,
)
from topo_core.simplices.settings import SimplexSettings

PASSES = LandscapeSettings(subdivide=True, simplices=SimplexSettings(subdivisions=8))
RANDOM = replace(PASSES, reach=4.0)  # where wells are drawn; some have one minimum to start from
TRIANGLES = LandscapeSettings(
    PathSettings(start="line"), SimplexSettings(subdivisions=16, height_tolerance=1e-5)
)
SOLIDS = LandscapeSettings(simplices=SimplexSettings(subdivisions=6))


@dataclass(frozen=True)
class Box:
    """The grid: [-half, half]^dimension with ``cells`` points per edge, and its resolution.

    Attributes:
        least: bars no longer than this may be ripples of the grid.
    """

    half: float
    cells: int
    dimension: int = 2
    least: float = 2e-3


@dataclass(frozen=True)
class Row:
    """One landscape; by index the number of bars, the error and the estimated sampling error."""

    name: str
    given: int
    found: int
    passes: int
    bars: tuple[int, ...]
    errors: tuple[float, ...]
    epsilons: tuple[float, ...]
    off_grid: int
    seconds: float

    @property
    def agrees(self) -> bool:
        """Whether every index is within its sampling error."""
        return all(e <= c + 1e-6 for e, c in zip(self.errors, self.epsilons, strict=True))

    def __str__(self) -> str:
        indices = "; ".join(
            f"index {i}: {n} bars, error {e:.1e}, ± {c:.1e}"
            for i, (n, e, c) in enumerate(zip(self.bars, self.errors, self.epsilons, strict=True))
        )
        verdict = "agrees" if self.agrees else "DIFFERS"
        open_ends = f", {self.off_grid} ends left on the grid" if self.off_grid else ""
        return (
            f"{self.name}: {verdict}; minima {self.given} -> {self.found}, passes {self.passes}; "
            f"{indices}{open_ends}; {self.seconds:.1f} s"
        )


def compare(
    name: str, known: Landscape, box: Box, settings: LandscapeSettings = PASSES, highest: int = 1
) -> Row:
    """The row of one landscape."""
    started = time.process_time()
    found = landscape_barcodes(known.objective, known.minima, highest, settings)
    seconds = time.process_time() - started
    truth, off_grid = exact_bars(
        known.objective, -box.half, box.half, box.cells, box.dimension, box.least
    )
    indices = range(highest + 1)
    return Row(
        name,
        len(known.minima),
        len(found.minima),
        len(found.passes),
        tuple(len(truth[index]) for index in indices),
        tuple(nearest(truth[index], found.barcodes[index].bars, box.least) for index in indices),
        tuple(found.epsilon[index] for index in indices),
        off_grid,
        seconds,
    )


def in_the_plane(make: Callable[[int], Landscape], seed: int) -> Row:
    """``gaussians`` or ``hills``."""
    return compare(f"{make.__name__} {seed}", make(seed), Box(6.0, 601), RANDOM)


def in_space(seed: int) -> Row:
    """``hills`` in three dimensions."""
    known = hills(seed, size=1.5, dimension=3)
    return compare(f"space {seed}", known, Box(3.5, 81, 3, least=1e-2), RANDOM)


def rastrigin_patch() -> Landscape:
    """Nine wells of Rastrigin's function, with a bowl outside so that no others take part."""

    def loss(x: torch.Tensor) -> torch.Tensor:
        waves = 1 - torch.cos(2 * torch.pi * x.clamp(-1.5, 1.5))
        return (x**2 + waves + 40 * (x.abs() - 1.5).clamp_min(0).square()).sum(1)

    from topo_core.reference_landscapes.surfaces import rastrigin_patch as whole

    known = whole()
    return Landscape(from_function(loss, 2), known.minima, known.losses, {})


def turned(known: Landscape) -> Landscape:
    """Minima off the axes by next to nothing: no line between two of them meets the centre."""
    move = torch.zeros_like(known.minima[0])
    move[-1] = 1e-12
    return Landscape(known.objective, known.minima + move, known.losses, known.passes)


KNOWN: dict[str, Callable[[], Row]] = {
    "Müller-Brown": lambda: compare("Müller-Brown", muller_brown(), Box(2.5, 1001, least=0.5)),
    "Himmelblau": lambda: compare("Himmelblau", himmelblau(), Box(6.0, 601, least=0.1)),
    "Rastrigin": lambda: compare("Rastrigin", rastrigin_patch(), Box(2.0, 401, least=5e-3)),
    "ring of two": lambda: compare("ring of two", ring_valley(2), Box(2.0, 401)),
    "ring of four": lambda: compare("ring of four", ring_valley(), Box(2.0, 401)),
}
# On the lattice a path is a polygon, and what fills its space cannot unfold: ± is wide
# (docs/numbers.md).
PLAIN: dict[str, Callable[[], Row]] = {
    "ring, triangles": lambda: compare(
        "ring, triangles", turned(ring_valley()), Box(2.0, 401), TRIANGLES
    ),
    "sphere, solids": lambda: compare(
        "sphere, solids", sphere_valley(), Box(2.0, 81, 3, least=1e-2), SOLIDS, 2
    ),
}
