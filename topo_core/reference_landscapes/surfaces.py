"""Loss landscapes whose minima and passes are known: for tests, demonstrations and documents.

Each constructor returns a ``Landscape``: an objective, its minima, and the minimax heights
between them, from closed forms or publications. ``embedded`` hides a landscape in many
dimensions.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from topo_core.objectives.curvature import full_gradients, hessian_vector_products
from topo_core.objectives.protocol import Objective, Step
from topo_core.random_streams import generator
from topo_core.reference_landscapes.landscape import Landscape, landscape_of


def muller_brown() -> Landscape:
    """The surface of Müller & Brown (1979), with its published minima and passes.

    Every path to minimum 0 crosses the pass at -40.6648; minima 1 and 2 are separated by the
    one at -72.2489.
    """
    height = _constant([-200.0, -100.0, -170.0, 15.0])
    xx, xy = _constant([-1.0, -1.0, -6.5, 0.7]), _constant([0.0, 0.0, 11.0, 0.6])
    yy = _constant([-10.0, -10.0, -6.5, 0.7])
    centre_x, centre_y = _constant([1.0, 0.0, -0.5, -1.0]), _constant([0.0, 0.5, 1.5, 1.0])

    def loss(points: Tensor) -> Tensor:
        x, y = points[:, :1] - centre_x.to(points), points[:, 1:] - centre_y.to(points)
        power = xx.to(points) * x * x + xy.to(points) * x * y + yy.to(points) * y * y
        return (height.to(points) * power.exp()).sum(1)

    near = [(-0.558224, 1.441726), (0.623499, 0.028038), (-0.050011, 0.466694)]
    return landscape_of(loss, near, {(0, 1): -40.6648, (0, 2): -40.6648, (1, 2): -72.2489})


def six_hump_camel() -> Landscape:
    """(4 − 2.1 x² + x⁴/3) x² + xy + (4 y² − 4) y²: six minima in three mirror pairs.

    Dixon & Szegő (1978). Losses −1.0316285, −0.2154638 and 2.1042503; the pass from the lowest pair to the
    next is at 0.5437186, and between the two lowest at the origin, of loss 0.
    """

    def loss(points: Tensor) -> Tensor:
        x, y = points[:, 0], points[:, 1]
        return (4 - 2.1 * x**2 + x**4 / 3) * x**2 + x * y + (4 * y**2 - 4) * y**2

    near = [(0.089842, -0.712656), (-0.089842, 0.712656), (1.703607, -0.796084)]
    near += [(-1.703607, 0.796084), (1.607105, 0.568651), (-1.607105, -0.568651)]
    return landscape_of(loss, near, dict.fromkeys([(0, 2), (1, 3)], 0.5437186) | {(0, 1): 0.0})


def two_wells() -> Landscape:
    """(x² - 1)² + y²: minima of loss 0 at (±1, 0), a pass of height 1 at the origin."""

    def loss(points: Tensor) -> Tensor:
        return (points[:, 0] ** 2 - 1) ** 2 + points[:, 1] ** 2

    return landscape_of(loss, [(-1.0, 0.0), (1.0, 0.0)], {(0, 1): 1.0})


def himmelblau() -> Landscape:
    """Himmelblau's function: four minima of loss 0, and a maximum between them."""

    def loss(points: Tensor) -> Tensor:
        x, y = points[:, 0], points[:, 1]
        return (x * x + y - 11) ** 2 + (x + y * y - 7) ** 2

    # The saddles are at 13.3119 (3.385, 0.074), 67.7192 (0.087, 2.884), 104.0152 and 178.337.
    low, middle, high = 13.311926, 67.719150, 104.015163
    near = [(3.0, 2.0), (3.584428, -1.848127), (-2.805118, 3.131312), (-3.77931, -3.283186)]
    passes = {(0, 1): low, (0, 2): middle, (1, 2): middle}
    return landscape_of(loss, near, {**passes, (0, 3): high, (1, 3): high, (2, 3): high})


def rastrigin_patch(radius: int = 1, amplitude: float = 1.0) -> Landscape:
    """Rastrigin's function in the plane, with its minima in [-radius, radius]².

    A sum over coordinates, so the pass between neighbours on the grid of minima is a maximum
    of the function of one coordinate.
    """

    def loss(points: Tensor) -> Tensor:
        waves = amplitude * (1 - torch.cos(2 * math.pi * points))
        return (points**2 + waves).sum(1)

    near = sorted(
        itertools.product(range(-radius, radius + 1), repeat=2),
        key=lambda point: (point[0] ** 2 + point[1] ** 2, point),
    )
    landscape = landscape_of(loss, [(float(x), float(y)) for x, y in near], {})
    passes = {}
    for (i, first), (j, second) in itertools.combinations(enumerate(near), 2):
        step = (abs(first[0] - second[0]), abs(first[1] - second[1]))
        if sum(step) == 1:
            axis = step.index(1)
            passes[i, j] = _axis_barrier(loss, landscape.minima[i], landscape.minima[j], axis)
    return Landscape(landscape.objective, landscape.minima, landscape.losses, passes)


def ring_valley(wells: int = 4, depth: float = 0.1) -> Landscape:
    """(r² - 1)² + depth (r^m - Re z^m): m = ``wells`` minima of loss 0 on the unit circle.

    All passes between neighbours have one height, and the circle that they close is a loop of
    index 1 that dies at the origin, where the loss is 1.
    """

    def loss(points: Tensor) -> Tensor:
        square = points.square().sum(1)
        wave = torch.complex(points[:, 0], points[:, 1]) ** wells
        return (square - 1) ** 2 + depth * (square ** (wells / 2) - wave.real)

    # On the ray half-way between two minima: (u - 1)² + 2 depth u^(m/2) with u = r².
    low, high = 0.0, 1.0
    for _ in range(200):
        middle = 0.5 * (low + high)
        rising = 2 * (middle - 1) + depth * wells * middle ** (wells / 2 - 1) > 0
        low, high = (low, middle) if rising else (middle, high)
    height = (low - 1) ** 2 + 2 * depth * low ** (wells / 2)
    angles = [2 * math.pi * k / wells for k in range(wells)]
    near = [(math.cos(a), math.sin(a)) for a in angles]
    return landscape_of(loss, near, dict.fromkeys(itertools.combinations(range(wells), 2), height))


def sphere_valley(depth: float = 0.5) -> Landscape:
    """(r² - 1)² + depth (r⁴ - Σ xᵢ⁴) in space: six minima of loss 0 on the unit sphere.

    In a direction where Σ xᵢ⁴ = c r⁴ the lowest loss is a / (1 + a) with a = depth (1 - c):
    c = 1/2 at the twelve passes and 1/3 at the eight tops of the valley, and the cavity at the
    origin has loss 1.
    """

    def loss(points: Tensor) -> Tensor:
        square = points.square().sum(1)
        return (square - 1) ** 2 + depth * (square**2 - (points**4).sum(1))

    axes = torch.eye(3, dtype=torch.float64)
    near = [tuple((sign * axis).tolist()) for axis in axes for sign in (1.0, -1.0)]
    height = 0.5 * depth / (1 + 0.5 * depth)
    return landscape_of(loss, near, dict.fromkeys(itertools.combinations(range(6), 2), height))


def gaussians(seed: int, wells: int = 8, size: float = 3.0) -> Landscape:
    """A random sum of ``wells`` Gaussian wells in [-size, size]² in a shallow bowl.

    Depths are in [0.5, 1.5], widths in [0.4, 0.9]. The minima are those that descents from the
    centres find; no pass is known in closed form.
    """
    draw = generator("gaussians", seed)
    uniform = torch.rand(wells, 4, generator=draw, dtype=torch.float64)
    centres = (2 * uniform[:, :2] - 1) * size
    depths, widths = 0.5 + uniform[:, 2], 0.4 + 0.5 * uniform[:, 3]

    def loss(points: Tensor) -> Tensor:
        square = _square_distances(points, centres)
        wells = depths.to(points) * torch.exp(-square / (2 * widths.to(points) ** 2))
        return 0.02 * points.square().sum(1) - wells.sum(1)

    near = [(float(x), float(y)) for x, y in centres]
    return landscape_of(loss, near, {})


def hills(
    seed: int, wells: int = 10, tops: int = 10, size: float = 2.0, dimension: int = 2
) -> Landscape:
    """A random sum of Gaussian wells and hills in [-size, size]^dimension in a bowl 0.1 r².

    Heights are in [0.5, 1.5], widths in [0.35, 0.65]: between the wells there are several passes,
    and loops of them around the hills. Minima as for ``gaussians``.
    """
    draw = generator("hills", seed)
    uniform = torch.rand(wells + tops, dimension + 2, generator=draw, dtype=torch.float64)
    centres = (2 * uniform[:, :dimension] - 1) * size
    heights, widths = 0.5 + uniform[:, dimension], 0.35 + 0.3 * uniform[:, dimension + 1]
    heights[:wells] *= -1

    def loss(points: Tensor) -> Tensor:
        square = _square_distances(points, centres)
        waves = heights.to(points) * torch.exp(-square / (2 * widths.to(points) ** 2))
        return 0.1 * points.square().sum(1) + waves.sum(1)

    near = [tuple(centre) for centre in centres[:wells].tolist()]
    return landscape_of(loss, near, {})


@dataclass(frozen=True)
class Embedded:
    """A landscape of d dimensions in a D-dimensional space, rotated, with a quadratic bowl in other
    directions.

    Attributes:
        inner: the objective of ``frame.shape[1]`` dimensions.
        frame: [D, d], orthonormal columns.
        stiffness: curvature of the bowl.
    """

    inner: Objective
    frame: Tensor
    stiffness: float

    @property
    def dimension(self) -> int:
        """D."""
        return self.frame.shape[0]

    @property
    def batches(self) -> int:
        """As in the inner objective."""
        return self.inner.batches

    def lift(self, points: Tensor) -> Tensor:
        """Points [k, d] of the inner landscape as points [k, D]."""
        return points @ self.frame.T.to(points)

    def losses(self, points: Tensor) -> Tensor:
        """Inner loss plus bowl, [k] float64."""
        inside = points @ self.frame.to(points)
        outside = points - self.lift(inside)
        bowl = 0.5 * self.stiffness * outside.square().sum(1).to(torch.float64)
        return self.inner.losses(inside) + bowl

    def gradients(self, points: Tensor, step: Step) -> tuple[Tensor, Tensor]:
        """Losses [k] and gradients [k, D]."""
        inside = points @ self.frame.to(points)
        outside = points - self.lift(inside)
        losses, gradients = self.inner.gradients(inside, step)
        losses = losses + 0.5 * self.stiffness * outside.square().sum(1)
        return losses, self.lift(gradients).add_(outside, alpha=self.stiffness)

    def full_gradients(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Losses [k] in float64 and gradients [k, D]."""
        inside = points @ self.frame.to(points)
        outside = points - self.lift(inside)
        losses, gradients = full_gradients(self.inner, inside)
        losses = losses + 0.5 * self.stiffness * outside.square().sum(1).to(torch.float64)
        return losses, self.lift(gradients).add_(outside, alpha=self.stiffness)

    def hessian_vector_products(self, points: Tensor, vectors: Tensor) -> Tensor:
        """Hessians at ``points`` [k, D] times ``vectors`` [k, D]."""
        frame = self.frame.to(points)
        inside = vectors @ frame
        products = hessian_vector_products(self.inner, points @ frame, inside)
        outside = vectors - self.lift(inside)
        return self.lift(products).add_(outside, alpha=self.stiffness)


def embedded(objective: Objective, dimension: int, seed: int, stiffness: float = 1.0) -> Embedded:
    """``objective`` (of known dimension d) in ``dimension`` D ≥ d, with a random rotation drawn from
    ``seed``.

    Raises:
        ValueError: the objective has no known dimension, or ``dimension`` is smaller than it.
    """
    if objective.dimension is None or objective.dimension > dimension:
        raise ValueError(
            f"the objective has dimension {objective.dimension}; give one with a known "
            f"dimension of at most {dimension}."
        )
    draw = generator("embedded", seed)
    columns = torch.randn(dimension, objective.dimension, generator=draw, dtype=torch.float64)
    return Embedded(objective, torch.linalg.qr(columns).Q, stiffness)


def _axis_barrier(
    loss: Callable[[Tensor], Tensor], first: Tensor, second: Tensor, axis: int
) -> float:
    """Maximum on the segment between two points that differ in one coordinate."""
    low, high = sorted((float(first[axis]), float(second[axis])))
    higher = first if float(loss(first[None])) > float(loss(second[None])) else second
    for _ in range(60):
        grid = torch.linspace(low, high, 33, dtype=torch.float64)
        points = higher.repeat(33, 1)
        points[:, axis] = grid
        top = int(loss(points).argmax())
        low, high = float(grid[max(top - 1, 0)]), float(grid[min(top + 1, 32)])
    return float(loss(points).max())


def _square_distances(points: Tensor, centres: Tensor) -> Tensor:
    """[k, n] of ``points`` [k, d] to ``centres`` [n, d]; unlike cdist differentiable twice."""
    return (points[:, None] - centres.to(points)).square().sum(2)


def _constant(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)
