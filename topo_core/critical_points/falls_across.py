"""Whether the loss falls beside the highest point of a path or a simplex, across it.

At the highest point of a path that cannot be lowered the loss rises in every direction across the path, and
for an r-simplex across its r tangents. A small gradient does not prove that: a symmetry can hold the point on
a ridge, a gradient across badly scaled coordinates is small and yet leads far down, and at a concave kink met
exactly PyTorch gives a gradient of zero. So the loss itself is evaluated, in directions in which it may fall:

- eigenvectors of negative or of no curvature across the tangents;
- the step of Newton's method across the tangents, which no scale of the coordinates changes;
- opposite to the gradients a small distance away on both sides, where a kink shows.

A direction counts as far as the loss keeps falling along it. Where the Hessian has r negative eigenvalues, as
at a saddle of index r, "across" means across their eigenvectors: a path may pass its saddle at an angle.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from topo_core.critical_points.lanczos import lowest_eigenpairs
from topo_core.critical_points.trust_region import newton_step
from topo_core.objectives.curvature import full_gradients, hessian_vector_products
from topo_core.objectives.protocol import Objective
from topo_core.random_streams import generator

_PRODUCTS = 60  # Hessian-vector products of each of the two searches
_ACROSS = 0.1  # length of its part along the tangents below which a unit vector lies across them
_SIDES = 3  # random directions, each on both sides
_NEAR = (
    1e-3,
    1e-1,
)  # first distances, in units of ``nearest``: a kink shows near, a flat ridge far
_ACCURACY = 1e-3  # of Newton's equations
_FIRST = 2.0**-6  # part of Newton's step at which the fall must begin
_FAR = 1e6  # of ``farthest``: radius of Newton's step, so that badly scaled coordinates do not bound it


@dataclass(frozen=True)
class _Ray:
    """A unit vector [d], and the first and the last distance at which the loss is evaluated along it."""

    direction: Tensor
    first: float
    last: float


def fall_across(
    objective: Objective, peak: Tensor, tangents: Tensor, *, nearest: float, farthest: float
) -> float:
    """The largest fall of the loss that was seen beside ``peak`` [d]; 0 where there is none.

    Args:
        objective: the loss, with exact gradients.
        peak: the highest point of a path or a simplex.
        tangents: [r, d], orthonormal, of the path or the simplex there; rows may be zero.
        nearest: distance at which a fall along a curvature begins.
        farthest: largest distance.
    """
    if not (len(peak) > len(tangents) and 0 < nearest <= farthest):
        return 0.0
    inside, directions = _curvatures(objective, peak, tangents)
    top, gradient = (values[0] for values in full_gradients(objective, peak[None]))
    rays = [_Ray(direction, nearest, farthest) for direction in directions]
    step = _newton(objective, peak, gradient, inside, _FAR * farthest)
    length = float(step.norm())
    if length > 0:
        rays.append(_Ray(step / length, min(nearest, _FIRST * length), length))
    rays += [
        _Ray(direction, part * nearest, farthest)
        for direction in _beside(objective, peak, inside, nearest)
        for part in (*_NEAR, 1.0)
    ]
    return _largest_fall(objective, peak, float(top), rays)


def _curvatures(
    objective: Objective, peak: Tensor, tangents: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """Orthonormal vectors [q, d] inside the path or the simplex, and directions across them.

    Inside are the r tangents, or r eigenvectors of negative curvature along them.
    """
    r, dimension = len(tangents), len(peak)

    def product(vector: Tensor) -> Tensor:
        return hessian_vector_products(objective, peak[None], vector[None])[0]

    zero = float(torch.finfo(peak.dtype).eps ** 0.5)  # of the largest: eigenvalues below it are 0
    start = torch.randn(dimension, generator=generator(0, "ridge"), dtype=torch.float64)
    pairs = lowest_eigenpairs(
        product, start.to(peak), r + 1, sign_above=zero, max_products=_PRODUCTS
    )
    least = zero * pairs.largest
    vectors = pairs.vectors.to(peak)
    proved = (pairs.values + pairs.residuals < -least).to(vectors.device)
    falling, flat = vectors[proved], vectors[(pairs.values.abs() <= least).to(vectors.device)]
    along = torch.linalg.vector_norm(falling @ tangents.T, dim=1)
    across = [*falling[along < _ACROSS]]
    inside = tangents[torch.linalg.vector_norm(tangents, dim=1) > 0]
    if len(falling) > r:
        # In the span of more than r falling directions some are orthogonal to all r tangents.
        _, _, frame = torch.linalg.svd(tangents @ falling.T)
        across += [*(frame[r:] @ falling)]
    elif len(falling) == r and not across:
        inside = falling
    for vector in flat:
        rest = vector - (inside @ vector) @ inside
        if float(rest.norm()) > _ACROSS:
            across.append(rest / rest.norm())
    return inside, [side for vector in across for side in (vector, -vector)]


def _newton(
    objective: Objective, peak: Tensor, gradient: Tensor, inside: Tensor, farthest: float
) -> Tensor:
    """The step [d] of Newton's method in the space across ``inside`` [q, d]."""

    def across(vector: Tensor) -> Tensor:
        return vector - (inside @ vector) @ inside

    def product(vector: Tensor) -> Tensor:
        image = hessian_vector_products(objective, peak[None], across(vector)[None])[0]
        return across(image)

    slope = across(gradient)
    if not (bool(slope.isfinite().all()) and float(slope.norm()) > 0):
        return torch.zeros_like(peak)
    step, _ = newton_step(
        product, slope, farthest, accuracy=_ACCURACY, max_products=min(_PRODUCTS, len(peak))
    )
    return torch.where(step.isfinite().all(), across(step), torch.zeros_like(step))


def _beside(objective: Objective, peak: Tensor, inside: Tensor, nearest: float) -> list[Tensor]:
    """Unit vectors opposite to the gradients beside ``peak``, across ``inside`` [q, d]."""
    draw = generator(0, "beside")
    rows = torch.randn(_SIDES, len(peak), generator=draw, dtype=torch.float64).to(peak)
    rows = rows - (rows @ inside.T) @ inside
    rows = rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    moves = torch.cat([side * part * nearest * rows for part in _NEAR for side in (1, -1)])
    _, gradients = full_gradients(objective, peak + moves)
    slopes = gradients - (gradients @ inside.T) @ inside
    lengths = torch.linalg.vector_norm(slopes, dim=1)
    usable = (lengths > 0) & lengths.isfinite()
    return [*(-slopes[usable] / lengths[usable, None])]


def _largest_fall(objective: Objective, peak: Tensor, top: float, rays: list[_Ray]) -> float:
    """The largest fall below ``top`` along any ray, at distances that double as long as it grows."""
    falls = [0.0] * len(rays)
    going = {k: ray.first for k, ray in enumerate(rays) if ray.first <= ray.last}
    while going:
        rows = torch.stack([peak + distance * rays[k].direction for k, distance in going.items()])
        lower = (top - objective.losses(rows)).tolist()
        farther = {}
        for (k, distance), fall in zip(going.items(), lower, strict=True):
            if math.isfinite(fall) and fall > falls[k]:
                falls[k] = fall
                if 2 * distance <= rays[k].last:
                    farther[k] = 2 * distance
        going = farther
    return max(falls, default=0.0)
