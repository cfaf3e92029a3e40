"""The barcode of one layer of two neurons on a grid: a check of ``one_dimensional`` without its searches.

    python -m tests.benchmarks.one_layer_grid                          # without a ridge
    python -m tests.benchmarks.one_layer_grid ridge=1e-3 radii=80 angles=96

For fixed hidden units the loss is convex in the output weights and the output bias. So {L < t} lies over
{f < t}, where f is the loss minimised over them, with convex fibres, and both have the same components: the
0-dimensional barcodes of L (7 parameters) and of f (4 parameters) are equal. f has a closed form. A hidden
unit tanh(wx + b) counts up to its sign, and two units up to their order, so the barcode is that of the
quotient. With (w, b) = r (cos φ, sin φ), r from 0.05 to 60 reaches the limits of f to its accuracy: linear
units at small r, steps between two of the 101 points at large r. So infima that are not attained are seen as
well: they are grid minima at the first or the last radius.

Each node of the grid of both units is given to the basin to which steps to the lowest neighbour lead, basins
are joined at the lowest edge between them, and the elder rule is applied to the result. Births and deaths
are as exact as the grid is fine: compare two grids.
"""

import math
import sys
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topo_core import barcode

Array = NDArray[np.float64]

RADII, ANGLES = 48, 64
SMALLEST, LARGEST = 0.05, 60.0
SHORTEST = 1e-2
"""Shorter bars are not printed: most are artefacts of the grid, which cuts narrow valleys into pieces."""
PARALLEL = 1e-9
"""1 − cos² below which two units count as one: rounding errors decide the loss from there on."""


def data() -> tuple[Array, Array]:
    """Inputs [101] and targets [101]."""
    x = np.linspace(-math.pi, math.pi, 101)
    return x, 0.31 * np.sin(-x) - 0.72 * np.sin(-2 * x) - 0.21 * np.cos(x) + 0.89 * np.cos(2 * x)


def reduced_loss(ridge: float, radii: int, angles: int) -> Array:
    """f [n, n] for pairs of the n = ``radii`` · ``angles`` units of the grid, radius by radius."""
    r = np.geomspace(SMALLEST, LARGEST, radii)[:, None]
    turn = ((np.arange(angles) + 0.5) * math.pi / angles)[None]  # no unit is constant
    weights, biases = (r * np.cos(turn)).ravel(), (r * np.sin(turn)).ravel()
    return _with_ridge(weights, biases, ridge) if ridge else _without_ridge(weights, biases)


def _with_ridge(weights: Array, biases: Array, ridge: float) -> Array:
    """f for all pairs of units with ``weights`` [n] and ``biases`` [n]."""
    x, y = data()
    units = np.tanh(weights[:, None] * x + biases[:, None])
    # The loss is y·y − 2 b·c + c·(M c), for the means over the points of products with (1, u, v).
    whole, means = 1 + ridge / 2, units.mean(1)
    products = units @ units.T / len(x) - np.outer(means, means) / whole
    right = units @ y / len(x) - means * y.mean() / whole
    square = np.diag(products) + ridge / 2
    gain = np.outer(right**2, square)
    gain = gain + gain.T - 2 * np.outer(right, right) * products
    gain /= np.outer(square, square) - products**2
    size = 0.5 * ridge * (weights**2 + biases**2)
    free: float = np.square(y).mean() - y.mean() ** 2 / whole
    result: Array = free - gain + size[:, None] + size[None, :]
    return result


def _without_ridge(weights: Array, biases: Array) -> Array:
    """As ``_with_ridge``. A unit counts up to a constant and a factor, so saturated ones keep their shape."""
    x, y = data()
    inputs = weights[:, None] * x + biases[:, None]
    logs = -np.logaddexp(0, 2 * inputs)  # of (1 − tanh) / 2, the unit up to a constant and a factor
    units = np.exp(logs - logs.max(1, keepdims=True))
    units -= units.mean(1, keepdims=True)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    right = units @ (y - y.mean()) / math.sqrt(len(x))
    cosines = units @ units.T
    apart = 1 - cosines**2
    square = right**2
    single = np.maximum(square[:, None], square[None, :])
    gain = square[:, None] + square[None, :] - 2 * np.outer(right, right) * cosines
    result: Array = y.var() - np.divide(gain, apart, out=single, where=apart > PARALLEL)
    return result


def neighbours(radii: int, angles: int) -> NDArray[np.int64]:
    """[8, n]: neighbours of each unit of the grid. The angle is periodic; an end of the radii is its own."""
    radius, angle = np.divmod(np.arange(radii * angles), angles)
    steps = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)]
    return np.stack(
        [np.clip(radius + i, 0, radii - 1) * angles + (angle + j) % angles for i, j in steps]
    )


def bars(ridge: float, radii: int, angles: int) -> list[tuple[float, float, tuple[float, float]]]:
    """(birth, death, radii of the two units) of all classes, lowest first."""
    f, near = reduced_loss(ridge, radii, angles), neighbours(radii, angles)
    count, same = len(f), np.arange(len(f))
    # One unit moves, or both in the same direction: units that are close to each other stay so.
    moves = [pair for step in near for pair in ((step, same), (same, step), (step, step))]
    lowest, target = f.copy(), np.arange(count * count).reshape(count, count)
    own = target.copy()
    for first, second in moves:
        moved = f[first][:, second]
        better = moved < lowest
        lowest[better] = moved[better]
        target[better] = own[first][:, second][better]
    basin = target.ravel()
    while not np.array_equal(further := basin[basin], basin):
        basin = further
    swapped = (basin % count) * count + basin // count
    basin = np.minimum(basin, swapped)  # both orders of two units are one class
    roots, label = np.unique(basin, return_inverse=True)
    label = label.reshape(count, count)
    heights = dict[tuple[int, int], float]()
    for first, second in moves:
        other = label[first][:, second]
        border = label != other
        edge = np.maximum(f, f[first][:, second])[border]
        for i, j, height in _lowest(label[border], other[border], edge):
            heights[i, j] = min(height, heights.get((i, j), math.inf))
    losses = f.ravel()[roots].tolist()
    r = np.geomspace(SMALLEST, LARGEST, radii)
    result = []
    for bar in barcode(losses, heights).bars:
        first, second = divmod(int(roots[bar.minimum]), count)
        result.append(
            (bar.birth, bar.death, (float(r[first // angles]), float(r[second // angles])))
        )
    return result


def _lowest(
    first: NDArray[Any], second: NDArray[Any], heights: Array
) -> list[tuple[int, int, float]]:
    """The lowest of ``heights`` between each two labels."""
    low, high = np.minimum(first, second), np.maximum(first, second)
    order = np.lexsort((heights, high, low))
    low, high, heights = low[order], high[order], heights[order]
    new = np.ones(len(low), dtype=bool)
    new[1:] = (low[1:] != low[:-1]) | (high[1:] != high[:-1])
    return list(zip(low[new].tolist(), high[new].tolist(), heights[new].tolist(), strict=True))


def main(options: dict[str, str]) -> list[tuple[float, float, tuple[float, float]]]:
    """Print all bars longer than ``SHORTEST``; options are ``ridge``, ``radii``, ``angles``."""
    begun = time.process_time()
    radii, angles = int(options.get("radii", RADII)), int(options.get("angles", ANGLES))
    result = bars(float(options.get("ridge", 0)), radii, angles)
    long = [bar for bar in result if bar[1] - bar[0] > SHORTEST]
    print("| birth | death | length | r of the units |\n|---|---|---|---|")
    for birth, death, (first, second) in long:
        print(f"| {birth:.4f} | {death:.4f} | {death - birth:.4f} | {first:.3g}, {second:.3g} |")
    print(f"\n{len(result) - len(long)} shorter bars; {time.process_time() - begun:.0f} s of CPU.")
    return result


if __name__ == "__main__":
    main(dict(option.split("=", 1) for option in sys.argv[1:]))
