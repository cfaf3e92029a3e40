"""Check that a user's network computes with other parameters than its own, and the gradient of its loss."""

from copy import deepcopy

import torch
from torch import Tensor, nn

from topo_core.objectives.functional_network import FunctionalNetwork
from topo_core.objectives.gradient_check import gradient_fault
from topo_core.objectives.losses import Loss
from topo_core.objectives.network_loss import ModuleObjective
from workers.problems.dataset import Dataset
from workers.problems.user_code import BadReference, first_line

_FEW_EXAMPLES = 8
"""Number of examples on which the gradient is checked: a few suffice, and are cheap for large networks."""
_NOISE = 0.01
"""Standard deviation of the displacement of the parameters, relative to their root mean square, at the point
where the gradient is checked."""


def check_copies(name: str, module: nn.Module, example: Tensor) -> None:
    """Check that a copy of the network, called with other parameters, agrees with the network at these
    parameters.

    It does not agree if its forward function is bound to the original, or reads tensors that are no
    parameters.

    Raises:
        BadReference: it does not agree.
    """
    draw = torch.Generator().manual_seed(0)
    copied, own = deepcopy(module).eval(), dict(module.named_parameters())
    before = {n: p.detach().clone() for n, p in own.items() if p.requires_grad}
    other = {
        n: p + 0.1 * torch.randn(p.shape, generator=draw).to(p.dtype) for n, p in before.items()
    }
    training = module.training
    with torch.no_grad():
        try:
            for parameter, value in other.items():
                own[parameter].copy_(value)
            expected = module.eval()(example)
        finally:
            for parameter, value in before.items():
                own[parameter].copy_(value)
            module.train(training)
        outputs = FunctionalNetwork(copied)(other, example)
    if not torch.allclose(outputs, expected, rtol=1e-4, atol=1e-5, equal_nan=True):
        raise BadReference(
            f"network.name {name!r} does not compute with the parameters of a copy of it (is a forward "
            "function bound to the original, or a tensor kept that is no parameter?): define forward in a "
            "class, with its parameters as attributes"
        )


def check_gradient(
    name: str, module: nn.Module, example: Tensor, targets: Tensor, loss: Loss
) -> None:
    """Check that the loss depends differentiably on the parameters: otherwise every point seems
    stationary.

    Raises:
        BadReference: it does not, or the loss fails.
    """
    with torch.enable_grad():
        try:
            value = loss.values(deepcopy(module).train()(example), targets).mean()
        except Exception as error:
            raise BadReference(
                f"the loss fails on network.name {name!r}: {first_line(error)}"
            ) from None
    if not value.requires_grad:
        raise BadReference(
            f"PyTorch cannot differentiate the loss of network.name {name!r} with respect to its parameters: "
            "remove any detach(), item(), numpy() or torch.no_grad() from its forward"
        )


def check_slope(name: str, module: nn.Module, data: Dataset, loss: Loss) -> torch.dtype:
    """Check on a few examples that the gradient agrees with finite differences of the loss.

    The check uses float64, in which differences of losses are accurate, unless the network supports only its
    own dtype.

    Returns:
        The dtype of the check.

    Raises:
        BadReference: they differ, or PyTorch cannot compute the gradient.
    """
    inputs, targets = data.train_inputs[:_FEW_EXAMPLES], data.train_targets[:_FEW_EXAMPLES]
    point = nn.utils.parameters_to_vector(p for p in module.parameters() if p.requires_grad)
    noise = torch.randn(len(point), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    # A displaced point avoids the kinks at zero biases and equal weights.
    moved = (
        point.detach().double() + _NOISE * point.detach().double().square().mean().sqrt() * noise
    )
    reason = ""
    for dtype in (torch.float64, point.dtype):
        x = inputs.to(dtype) if inputs.is_floating_point() else inputs
        try:
            objective = ModuleObjective(
                deepcopy(module).to(dtype),
                x,
                targets.to(dtype) if targets.is_floating_point() else targets,
                batch_size=len(x),
                strategy="literal",
                loss=loss,
            )
            fault = gradient_fault(objective, moved.to(dtype)[None])
        except Exception as error:  # raised by the user's code, often in another dtype than its own
            reason = first_line(error)
            continue
        if fault is None:
            return dtype
        raise BadReference(
            f"network.name {name!r} has a gradient that is not that of its loss: {fault}; remove any "
            "detach(), rounding or hook that changes gradients from its forward"
        )
    raise BadReference(
        f"network.name {name!r}: PyTorch cannot compute the gradient of its loss ({reason})"
    )
