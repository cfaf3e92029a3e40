"""Schwefel's function in two dimensions (1981): separable, so every pass is known exactly.

The loss is −Σ xᵢ sin √|xᵢ|. A minimum is a pair of minima of the function of one coordinate; a saddle is a
minimum in one coordinate and a maximum in the other. So all heights follow from the critical values of one
coordinate: the lowest pass between two minima is a minimax path on the grid of pairs.
"""

import itertools

import torch
from scipy.cluster.hierarchy import DisjointSet
from scipy.optimize import brentq
from torch import Tensor

from topo_core.objectives.protocol import from_function
from topo_core.reference_landscapes.landscape import Landscape

_REACH = 600.0  # the usual bound is 500; the maximum beyond the lowest minimum is at 559
_STEP = 1.0  # grid step, far below the smallest distance (5) of two critical points of a coordinate


def schwefel() -> Landscape:
    """All minima between the outermost maxima in [−600, 600]², lowest first, and all passes between them."""
    critical = _critical_points()
    values = _along(torch.tensor(critical, dtype=torch.float64)).tolist()
    low = [k for k in range(1, len(critical) - 1) if values[k] < min(values[k - 1], values[k + 1])]
    pairs = sorted(itertools.product(low, low), key=lambda p: (values[p[0]] + values[p[1]], p))
    numbers = {pair: number for number, pair in enumerate(pairs)}
    edges = []
    for (i, j), number in numbers.items():
        for other, height in (
            ((i + 2, j), values[i + 1] + values[j]),
            ((i, j + 2), values[i] + values[j + 1]),
        ):
            if other in numbers:
                edges.append((height, number, numbers[other]))
    passes: dict[tuple[int, int], float] = {}
    joined = DisjointSet(range(len(pairs)))
    for height, first, second in sorted(edges):
        if joined.connected(first, second):
            continue
        sides = itertools.product(joined.subset(first), joined.subset(second))
        passes |= {(min(pair), max(pair)): height for pair in sides}
        joined.merge(first, second)
    minima = torch.tensor([[critical[i], critical[j]] for i, j in pairs], dtype=torch.float64)
    objective = from_function(_loss, 2)
    return Landscape(objective, minima, objective.losses(minima), passes)


def _loss(points: Tensor) -> Tensor:
    return _along(points).sum(1)


def _along(x: Tensor) -> Tensor:
    """−x sin √|x|. The square root has no derivative at 0; the product has."""
    return -x * x.abs().clamp_min(1e-300).sqrt().sin()


def _critical_points() -> list[float]:
    """Critical points of one coordinate: sign changes of the derivative −sin s − ½ s cos s, with s = √|x|."""

    def slope(x: float) -> float:
        s = torch.tensor(abs(x), dtype=torch.float64).sqrt()
        return float(-s.sin() - 0.5 * s * s.cos())

    grid = [_STEP * k for k in range(1, int(_REACH / _STEP) + 1)]
    right = [
        float(brentq(slope, a, b, xtol=1e-13))
        for a, b in itertools.pairwise(grid)
        if slope(a) * slope(b) < 0
    ]
    # An odd function: at −x the value is that at x with the other sign. 0 is an inflection.
    return [-x for x in reversed(right)] + right
