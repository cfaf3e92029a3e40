"""Whether the gradient jumps at a point: the loss has a kink there, and no Hessian describes it.

Gradients are taken on both sides of the point at several small distances. Where the loss is smooth their
difference shrinks with the distance; across a kink it stays. The smallest vector in the convex hull of
such gradients approximates the condition of Clarke: at a minimum on a kink it is zero, although no
single gradient is (gradient sampling: Burke, Lewis & Overton 2005).

Where the gradient is not finite on one side, at the smallest of the distances, the loss ends there, as √x
does at 0. This counts as a kink, too: no Hessian describes the loss.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from topo_core.critical_points.counting import CountedObjective
from topo_core.random_streams import generator

_DISTANCES = {torch.float64: (1e-5, 1e-6, 1e-7, 1e-8)}  # in sizes of the parameters
_COARSE = (1e-2, 1e-3)  # in float32, whose gradients have seven digits
_DIRECTIONS = 3  # random ones, beside that of the gradient
_STAYS = 0.5  # of a jump at a tenth of the distance; a smooth gradient keeps a tenth


@dataclass(frozen=True)
class Kink:
    """A jump of the gradient.

    Attributes:
        jump: the norm of the difference of gradients on both sides; at the edge of the domain, the
            norm of the gradient.
        distance: from the point to where both were taken.
        smallest: norm of the smallest vector in the hull of the gradients around the point, an upper
            bound of the distance of zero from Clarke's subdifferential.
    """

    jump: float
    distance: float
    smallest: float


def find_kink(
    counted: CountedObjective,
    point: Tensor,
    gradient: Tensor,
    *,
    length: float,
    seed: int = 0,
) -> Kink | None:
    """The kink at ``point`` [d], or None where the gradient is continuous as far as it was sampled.

    Args:
        counted: the loss.
        point: [d].
        gradient: [d], there.
        length: the size of the parameters: the unit of the distances.
        seed: of the random directions.
    """
    distances = _DISTANCES.get(point.dtype, _COARSE)
    draw = generator(seed, "kink")
    rows = torch.randn(_DIRECTIONS, len(point), generator=draw, dtype=torch.float64).to(point)
    directions = torch.cat([gradient[None], rows])
    directions = directions / directions.norm(dim=1, keepdim=True).clamp_min(1e-300)
    moves = torch.stack([size * length * directions for size in distances])
    flat = moves.flatten(0, 1)
    _, gradients = counted.batch(torch.cat([point + flat, point - flat]))
    ahead, behind = (half.reshape(moves.shape) for half in gradients.chunk(2))
    jumps = torch.linalg.vector_norm(ahead - behind, dim=2)
    # Gradients that differ by less are equal but for rounding.
    sizes = torch.linalg.vector_norm(gradients, dim=1)
    least = 1e3 * torch.finfo(point.dtype).eps * float(sizes.max())
    whole = gradients.isfinite().all(1).reshape(2, len(distances), -1).all(0)
    if not bool(whole[-1].all()):
        norm = float(torch.linalg.vector_norm(gradient))
        return Kink(norm, distances[-1] * length, norm)
    for k in reversed(range(1, len(distances))):
        stays = (jumps[k] >= _STAYS * jumps[k - 1]) & (jumps[k] > least)
        if bool(stays.any()):
            jump = float(torch.where(stays, jumps[k], 0.0).max())
            around = torch.cat([ahead[k], behind[k], gradient[None]])
            return Kink(jump, distances[k] * length, smallest_in_hull(around))
    return None


def smallest_in_hull(gradients: Tensor) -> float:
    """Norm of the smallest convex combination of ``gradients`` [m, d].

    Non-negative least squares, with a heavy row that makes the weights add up to one.
    """
    from scipy.optimize import nnls  # takes a third of a second to import

    rows = gradients.to("cpu", torch.float64).numpy()
    # The same inner products in few coordinates.
    small = np.linalg.qr(rows.T, mode="r")
    heavy = 1e4 * max(float(np.abs(small).max()), 1e-300)
    matrix = np.vstack([small, np.full((1, len(rows)), heavy)])
    weights, _ = nnls(matrix, np.append(np.zeros(len(small)), heavy))
    weights = weights / weights.sum()
    return float(np.linalg.norm(small @ weights))
