"""A tanh network of nine parameters with a flat local minimum of exactly 1/3, whose bar has length 0.

Yun, Sra & Jadbabaie, "Small nonlinearities in activation functions create bad local minima in neural
networks" (2019): three inputs (1, 0), (0, 1), (½, ½) with outputs 0, 0, 1, a 2-2-1 network, half the sum of
squares. If all input weights are 0, the network computes a constant, and the best constant has loss 1/3. If
for each hidden unit tanh'' and the outgoing weight have suitable signs, no small change of the input weights
lowers the loss. Such points are local minima and form a flat set. Within the flat set an outgoing weight can
change its sign; the loss can fall from there. So a path can leave the minimum without rising above it.
"""

import torch
from torch import Tensor

from topo_core.reference_landscapes.landscape import Landscape, landscape_of

_INPUTS = ((1.0, 0.0), (0.0, 1.0), (0.5, 0.5))
_OUTPUTS = (0.0, 0.0, 1.0)
FLAT_LOSS = 1 / 3


def flat_minimum_network() -> Landscape:
    """Minimum 0 has loss 0, minimum 1 is flat, and the pass between them is at 1/3.

    Parameters: weights of the hidden units [2, 2] row by row, their biases [2], outgoing weights [2], bias.
    """
    bias, outgoing = -0.5, 1.0
    constant = 1 / 3 - 2 * outgoing * float(torch.tanh(torch.tensor(bias, dtype=torch.float64)))
    flat = (0.0, 0.0, 0.0, 0.0, bias, bias, outgoing, outgoing, constant)
    lowest = (2.0, 2.1, 1.9, -2.0, -3.0, 1.0, 2.0, -0.5, 1.0)
    return landscape_of(_loss, [lowest, flat], {(0, 1): FLAT_LOSS})


def _loss(points: Tensor) -> Tensor:
    inputs, outputs = points.new_tensor(_INPUTS), points.new_tensor(_OUTPUTS)
    hidden = torch.tanh(
        inputs @ points[:, :4].reshape(-1, 2, 2).transpose(1, 2) + points[:, None, 4:6]
    )
    predicted = (hidden * points[:, None, 6:8]).sum(2) + points[:, 8:]
    return 0.5 * (predicted - outputs).square().sum(1)
