"""Checks that the losses and gradients of an evaluation strategy agree with those of plain PyTorch.

The check runs before a strategy is used.

The comparison is in float64, on one minibatch and at several points, against a loop that calls the module
and `backward` and uses no code of the strategies. In float32 a kink can move a gradient by a percent, which
would hide a wrong strategy.
"""

from copy import deepcopy

import torch
from torch import Tensor, nn

from topo_core.objectives.batch_norm import training_norms, without_statistics
from topo_core.objectives.losses import CrossEntropy, Loss
from topo_core.objectives.network_loss import ModuleObjective
from topo_core.objectives.protocol import Step

TOLERANCE = 1e-8
"""Largest relative difference, in float64: rounding gives 1e-12, a wrong forward pass at least 1e-3."""


def disagreement(
    module: nn.Module,
    points: Tensor,
    inputs: Tensor,
    targets: Tensor,
    strategy: str,
    loss: Loss | None = None,
) -> str | None:
    """How a strategy's losses or gradients differ from plain PyTorch's; None where they agree.

    Args:
        module: the network.
        points: [k, d], the points at which both are evaluated.
        inputs, targets: one batch of examples.
        strategy: name of the strategy.
        loss: loss function of outputs and targets; cross entropy by default.

    Raises:
        RuntimeError: the network cannot be evaluated in float64.
    """
    loss = loss or CrossEntropy()
    double = deepcopy(module).double()
    x = inputs.double() if inputs.is_floating_point() else inputs
    y = targets.double() if targets.is_floating_point() else targets
    rows = points.double()
    objective = ModuleObjective(double, x, y, batch_size=len(x), strategy=strategy, loss=loss)
    batch = objective.minibatch(Step(0, 0, 0))
    losses, gradients = objective.minibatch_gradients(rows, Step(0, 0, 0))
    weights = loss.weights(y)
    scale = 1.0 if weights is None else float(weights.mean())
    for row, own_loss, own_gradient in zip(rows, losses, gradients, strict=True):
        expected, slope = (value / scale for value in plain_gradient(double, row, *batch, loss))
        if not _close(own_loss, expected):
            return (
                f"its loss is {float(own_loss):.6g}, and plain PyTorch gives {float(expected):.6g}"
            )
        if not _close(own_gradient, slope):
            apart = float((own_gradient - slope).norm() / slope.norm())
            return f"its gradient differs from plain PyTorch's by {apart:.1e} of its length"
    return None


def plain_gradient(
    module: nn.Module, point: Tensor, inputs: Tensor, targets: Tensor, loss: Loss
) -> tuple[Tensor, Tensor]:
    """The mean loss and its gradient [d], by loading the weights [d] and calling `backward`."""
    copied = without_statistics(module, training_norms(module))
    parameters = [p for p in copied.parameters() if p.requires_grad]
    with torch.no_grad():
        sizes = [p.numel() for p in parameters]
        for parameter, values in zip(parameters, point.split(sizes), strict=True):
            parameter.copy_(values.view_as(parameter))
    with torch.enable_grad():
        value = loss.values(copied(inputs), targets).mean()
        value.backward()
    slopes = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    return value.detach(), torch.cat([slope.flatten() for slope in slopes])


def _close(a: Tensor, b: Tensor) -> bool:
    return bool((a - b).norm() <= TOLERANCE * b.norm() + 1e-12)
