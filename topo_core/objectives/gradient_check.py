"""Whether gradients are those of the loss: a comparison with central differences.

They differ if a part of the graph is cut (``detach``), if a hook or an ``autograd.Function`` changes them, or
if a hand-written gradient does not match its loss. A descent along such gradients ends at points that are
neither minima nor passes of the loss.

A difference quotient counts only if its values for three distances agree. So a kink between its points, a
jump or rounding is not taken for a fault. The given points should not lie on a kink: displace them at random
first.
"""

import torch
from torch import Tensor

from topo_core.objectives.curvature import default_difference, full_gradients
from topo_core.objectives.protocol import CurvatureObjective, Objective, Step
from topo_core.random_streams import generator

# Distances of the quotients, in units of ``default_difference``. They are larger in float64, since a loss may
# compute in float32 internally.
_DISTANCES = {torch.float64: (100.0, 10.0, 1.0)}
_CLOSE = (1.0, 0.5, 0.25)
_WRONG = {torch.float64: 1e-3}  # relative difference that counts as a fault in float64,
# and in float32, where third derivatives and rounding cause differences of a percent
_COARSE = 5e-2
_AGREE = 0.1  # of the fault: largest difference between quotients that count as equal
_STEP = Step(0, 0, 0)


def gradient_fault(objective: Objective, points: Tensor) -> str | None:
    """How the gradient differs from the change of the loss at ``points`` [k, d]; None where it does not.

    Both are those of the whole training set, or, for an objective that has gradients on minibatches alone,
    those of one minibatch. The directions are that of the gradient and a random one.

    Returns:
        A clause that begins with "along", to be used inside a sentence.
    """
    whole = objective.batches == 1 or isinstance(objective, CurvatureObjective)

    def losses(rows: Tensor) -> Tensor:
        if whole:
            return objective.losses(rows)
        return objective.gradients(rows, _STEP)[0].to(torch.float64)

    gradients = (
        full_gradients(objective, points)[1] if whole else objective.gradients(points, _STEP)[1]
    )
    noise = torch.randn(points.shape, generator=generator("gradient check"), dtype=torch.float64)
    directions = [("a random direction", noise.to(points)), ("the gradient", gradients)]
    wrong = _WRONG.get(points.dtype, _COARSE)
    eps = torch.finfo(points.dtype).eps
    distances = default_difference(points)
    for name, rows in directions:
        lengths = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
        units = rows / torch.where(lengths > 0, lengths, 1.0)
        slopes = (gradients * units).sum(1).double()
        quotients, rounding = [], slopes.new_zeros(len(points))
        for part in _DISTANCES.get(points.dtype, _CLOSE):
            moves = (part * distances)[:, None] * units
            ahead, behind = losses(points + moves), losses(points - moves)
            quotients.append((ahead - behind) / (2 * part * distances.double()))
            largest = torch.maximum(ahead.abs(), behind.abs())
            if len(quotients) == 1:
                rounding = 16 * eps * largest / (part * distances.double())
        change = torch.stack(quotients)  # [3, k]
        fault = (change[0] - slopes).abs()
        spread = change.amax(0) - change.amin(0)
        usual = torch.maximum(change[0].abs(), slopes.abs())
        # A random direction may be nearly orthogonal to the gradient.
        usual = torch.maximum(usual, 0.1 * gradients.double().norm(dim=1) / points.shape[1] ** 0.5)
        bad = (fault > wrong * usual + rounding) & (spread <= _AGREE * fault)
        if bool(bad.any()):
            k = int(torch.where(bad, fault / usual, -1.0).argmax())
            return (
                f"along {name} the loss changes by {float(change[0][k]):.4g} a unit of length, and its "
                f"gradient gives {float(slopes[k]):.4g}"
            )
    return None
