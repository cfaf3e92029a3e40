"""From saddles of index 1 down on both sides, to the minima that they join."""

import torch
from torch import Tensor

from topo_core.critical_points.monotone_descent import Descents, descend_together, inverse_of
from topo_core.critical_points.scaled_loss import ScaledLoss

_PARTS = (
    0.25,
    0.5,
    0.75,
    1.0,
)  # fractions of a first step at which its fall is compared with the curvature
_SHRINK = 0.4
_SHORTER = 20  # largest number of times that a first step is shortened


def descend_both_sides_together(
    loss: ScaledLoss,
    saddles: Tensor,
    values: Tensor,
    vectors: Tensor,
    *,
    first: float,
    longest: float,
    tolerance: float,
    steps: int = 200,
) -> Descents:
    """Descents from ``saddles`` [k, d]: rows 0 to k - 1 along the lowest mode, rows k to 2k - 1 against it.

    Every polyline begins at its saddle and is nowhere higher.

    Args:
        loss: the loss.
        saddles: of index 1.
        values: their eigenvalues [k, m], increasing; m = d makes the first steps Newton steps.
        vectors: [k, d, m], the eigenvectors.
        first: longest first step along the mode; a shorter one is taken where the fall of the loss does not
            match the curvature.
        longest: longest step.
        tolerance: predicted fall below which a descent has converged, a difference of losses.
        steps: largest number of steps.
    """
    both = torch.cat([vectors[:, :, 0], -vectors[:, :, 0]])
    tops, lowest = torch.cat([saddles, saddles]), torch.cat([values[:, 0], values[:, 0]])
    size = _first_steps(loss, tops, both, lowest, first)
    whole = values.shape[1] == saddles.shape[1]
    inverse = None
    if whole:
        inverse = inverse_of(torch.cat([values, values]), torch.cat([vectors, vectors]))
    down = descend_together(
        loss,
        tops + size[:, None] * both,
        radius=size,
        longest=longest,
        tolerance=tolerance,
        steps=steps,
        inverse=inverse,
        refresh=max(8, loss.dimension // 2) if whole else None,
    )
    down.polylines = [
        torch.cat([top[None], polyline]) for top, polyline in zip(tops, down.polylines, strict=True)
    ]
    return down


def _first_steps(
    loss: ScaledLoss, tops: Tensor, sides: Tensor, values: Tensor, first: float
) -> Tensor:
    """Lengths [k] of first steps along ``sides``, over which the loss falls as the curvatures say."""
    parts = tops.new_tensor(_PARTS)
    highest = loss.losses(tops)
    noise = 4 * torch.finfo(tops.dtype).eps * highest.abs()
    size = tops.new_full((len(tops),), first)
    for _ in range(_SHORTER):
        moves = (size[:, None] * parts)[:, :, None] * sides[:, None, :]
        there = loss.losses((tops[:, None] + moves).flatten(0, 1)).reshape(len(tops), -1)
        fall = highest[:, None] - there
        expected = 0.5 * values.abs()[:, None] * (size[:, None] * parts).square()
        good = ((fall >= 0.5 * expected) & (fall <= 2 * expected)).all(1)
        good |= expected[:, -1] <= noise  # shorter steps would show rounding alone
        if bool(good.all()):
            break
        size = torch.where(good, size, _SHRINK * size)
    return size
