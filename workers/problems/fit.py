"""Whether data, network and loss fit together, and make a function of the parameters."""

from copy import deepcopy

import torch
from torch import Tensor, nn

from topo_core.objectives.functional_network import FunctionalNetwork
from topo_core.objectives.losses import Loss
from workers.problems.data_sets import Dataset
from workers.problems.network_state import NetworkState
from workers.problems.user_code import BadReference
from workers.tasks.problem import Problem


def output_size(data: Dataset, loss: Loss) -> int:
    """Outputs of a network on these data: classes, or targets of an example.

    Raises:
        BadReference: the loss cannot take the targets; one sentence.
    """
    try:
        sizes = [loss.output_size(targets) for targets in (data.train_targets, data.test_targets)]
    except ValueError as error:
        raise BadReference(str(error)) from None
    return max(*sizes, data.classes if loss.counts_classes(data.train_targets) else 1)


def settle_copies(module: nn.Module, example: Tensor) -> None:
    """Make a network copyable whose weights are computed from others and kept (`nn.utils.weight_norm`).

    Such a weight is the result of a differentiable computation, which `deepcopy` refuses. Computed again
    without a gradient it can be copied, and every call of the network computes it again anyway.
    """
    try:
        deepcopy(module)
    except RuntimeError:
        training = module.training
        with torch.no_grad():
            module.eval()(example)
        module.train(training)


def check_fit(problem: Problem, data: Dataset, module: nn.Module, loss: Loss) -> None:
    """Check that the network takes two examples, and that its loss is a function of the parameters.

    With dropout the loss would be another function at each evaluation, and also with buffers that change
    while the network computes; both are refused.

    Raises:
        BadReference: the first thing that does not fit; one sentence.
    """
    name = problem.network.name
    if not any(p.requires_grad for p in module.parameters()):
        raise BadReference(
            f"network.name {name!r} has no trainable parameters: leave requires_grad of some at True"
        )
    example, targets = data.train_inputs[:2].clone(), data.train_targets[:2]
    outputs = _outputs(problem, data, deepcopy(module).eval(), example, seed=0)
    if not torch.equal(example, data.train_inputs[:2]):
        raise BadReference(
            f"network.name {name!r} changes its inputs in place, which other evaluations share: begin its "
            "forward with x = x.clone()"
        )
    size = output_size(data, loss)
    _check_outputs(name, outputs, targets, size, loss)
    trained = deepcopy(module).train()
    before = {n: b.clone() for n, b in trained.named_buffers()}
    first = _outputs(problem, data, trained, example, seed=0)
    again = _outputs(problem, data, deepcopy(module).train(), example, seed=1)
    if not isinstance(first, Tensor) or not isinstance(again, Tensor):
        raise BadReference(
            f"network.name {name!r} returns {type(first).__name__} in training; it must return a "
            "tensor then too (for a network with auxiliary outputs: aux_logits: false)"
        )
    if not torch.equal(first, again):
        raise BadReference(
            f"network.name {name!r} draws random numbers in training (dropout?), so its loss is no "
            "function of the parameters: set their probability to 0 by its options"
        )
    _check_buffers(name, before, trained)
    _check_copies(name, module, example)
    _check_gradient(name, module, example, targets, loss)


def _check_outputs(name: str, outputs: object, targets: Tensor, size: int, loss: Loss) -> None:
    count, classes = len(targets), loss.counts_classes(targets)
    if isinstance(outputs, Tensor):
        try:
            loss.check(outputs, targets)
        except (ValueError, RuntimeError, IndexError):
            pass
        else:
            if not classes or outputs.shape[-1] == size:
                return
    shape = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
    wanted = (*targets.shape, size) if classes else tuple(targets.shape)
    if classes and targets.is_floating_point():
        wanted = tuple(targets.shape)
    batch = f"{count} examples of {size} classes" if classes else f"{count} examples"
    raise BadReference(
        f"network.name {name!r} returns {shape} for {batch}; it must return "
        f"({', '.join(map(str, wanted))})"
    )


def _check_buffers(name: str, before: dict[str, Tensor], module: nn.Module) -> None:
    statistics = NetworkState.of(module).statistics
    for buffer, value in module.named_buffers():
        if buffer in statistics or (buffer in before and torch.equal(before[buffer], value)):
            continue
        raise BadReference(
            f"network.name {name!r} changes its buffer {buffer} while it computes in training, so its loss "
            "is no function of the parameters: build it without (spectral_norm, running statistics)"
        )


def _check_copies(name: str, module: nn.Module, example: Tensor) -> None:
    """Check that a copy of the network computes the same at other parameters as the network does.

    It does not where a forward function is bound to the original, or reads tensors that are no parameters.
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


def _check_gradient(
    name: str, module: nn.Module, example: Tensor, targets: Tensor, loss: Loss
) -> None:
    """Check that the loss has a gradient: without one every point would look like a minimum."""
    with torch.enable_grad():
        try:
            value = loss.values(deepcopy(module).train()(example), targets).mean()
        except (ValueError, RuntimeError, TypeError, IndexError) as error:
            raise BadReference(f"the loss fails on network.name {name!r}: {error}") from None
    if not value.requires_grad:
        raise BadReference(
            f"PyTorch cannot differentiate the loss of network.name {name!r} with respect to its parameters: "
            "remove any detach(), item(), numpy() or torch.no_grad() from its forward"
        )


def _outputs(
    problem: Problem, data: Dataset, module: nn.Module, example: Tensor, *, seed: int
) -> object:
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            outputs: object = module(example)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        reason = str(error).splitlines()[0]
        raise BadReference(
            f"network.name {problem.network.name!r} does not take the inputs of "
            f"{problem.data.name!r}, of shape {data.input_shape}: {reason}"
        ) from None
    return outputs
