"""The barcodes of a function on a grid, by GUDHI's cubical complex: no path takes part in it."""

import gudhi
import numpy as np
import torch

from topo_core.homology.bottleneck_distance import bottleneck
from topo_core.objectives.protocol import Objective, Step

_NEWTON = 30  # steps
_REST = 1e-9  # gradient that counts as zero, relative to the Hessian times the spacing


def grid_bars(
    objective: Objective, low: float, high: float, cells: int, dimension: int = 2
) -> dict[int, np.ndarray]:
    """Bars [m, 2] of each index below ``dimension`` on the box [low, high]^dimension."""
    box, _ = _box(objective, low, high, cells, dimension)
    box.compute_persistence(min_persistence=0)
    return {index: box.persistence_intervals_in_dimension(index) for index in range(dimension)}


def exact_bars(
    objective: Objective, low: float, high: float, cells: int, dimension: int, least: float
) -> tuple[dict[int, np.ndarray], int]:
    """Bars as of ``grid_bars`` longer than ``least``, with the values of the critical points.

    The grid decides which critical points make a bar; Newton's method then goes from their places
    on the grid to where the gradient vanishes, so that the spacing is no part of the error. Also
    the number of ends for which that found no critical point of the right index, nearby: they
    keep the value of the grid.
    """
    box, places = _box(objective, low, high, cells, dimension)
    box.compute_persistence(min_persistence=0)
    # GUDHI numbers vertices with the first axis fastest.
    numbers = np.arange(cells**dimension).reshape((cells,) * dimension).ravel(order="F")
    pairs, endless = (
        [numbers[np.asarray(part, dtype=np.int64)] for part in parts]
        for parts in box.vertices_of_persistence_pairs()
    )
    spacing = (high - low) / (cells - 1)
    found, kept = {}, 0
    for index in range(dimension):
        bars = []
        for ends in pairs[index] if index < len(pairs) else []:
            birth, death = objective.losses(places[ends]).tolist()
            if death - birth > least:
                bars.append([(int(ends[0]), index, birth), (int(ends[1]), index + 1, death)])
        for born in endless[index] if index < len(endless) else []:
            bars.append([(int(born), index, float(objective.losses(places[born][None])))])
        found[index] = np.full((len(bars), 2), np.inf)
        for row, bar in zip(found[index], bars, strict=True):
            for column, (vertex, order, grid) in enumerate(bar):
                value = _critical(objective, places[vertex], order, spacing)
                kept += value is None
                row[column] = grid if value is None else value
    return found, kept


def distance(truth: np.ndarray, bars, least: float) -> float:
    """Bottleneck distance of the bars longer than ``least``; a grid has ripples."""
    ours = np.array([(bar.birth, bar.death) for bar in bars]).reshape(-1, 2)
    long_ = [points[points[:, 1] - points[:, 0] > least] for points in (truth, ours)]
    return bottleneck(*long_)


def nearest(truth: np.ndarray, bars, least: float) -> float:
    """Bottleneck distance of ``truth``, whose bars are longer than ``least``, from ``bars``.

    Shorter bars of ours are left out, unless one of them is the partner of a bar of the truth.
    """
    return min(distance(truth, bars, least), distance(truth, bars, 0.0))


def _box(objective: Objective, low: float, high: float, cells: int, dimension: int):
    axis = torch.linspace(low, high, cells, dtype=torch.float64)
    places = torch.cartesian_prod(*[axis] * dimension)
    losses = torch.cat([objective.losses(chunk) for chunk in places.split(1 << 16)])
    return gudhi.CubicalComplex(vertices=losses.reshape([cells] * dimension).numpy()), places


def _critical(
    objective: Objective, start: torch.Tensor, order: int, spacing: float
) -> float | None:
    """The loss at the critical point of index ``order`` close to ``start`` [d]; None without one."""
    step = Step(0, 0, 0)
    width, point = len(start), start.clone()
    moves = 1e-5 * spacing * torch.eye(width, dtype=torch.float64)
    for _ in range(_NEWTON):
        around = torch.cat([point[None], point + moves, point - moves])
        _, gradients = objective.gradients(around, step)
        gradient, ahead, behind = gradients.split([1, width, width])
        hessian = (ahead - behind) / (2e-5 * spacing)
        hessian = 0.5 * (hessian + hessian.T)
        if float(gradient.norm()) <= _REST * float(hessian.norm()) * spacing:
            near = float((point - start).norm()) <= 4 * spacing * width**0.5
            right = int((torch.linalg.eigvalsh(hessian) < 0).sum()) == order
            return float(objective.losses(point[None])) if near and right else None
        move = torch.linalg.lstsq(hessian, -gradient.T).solution[:, 0]
        point = point + move * min(1.0, spacing / float(move.norm()))
    return None
