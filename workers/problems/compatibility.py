"""Check that data, network and loss fit together, and that the loss is a function of the parameters."""

from copy import deepcopy

import torch
from torch import Tensor, nn

from topo_core.objectives.losses import Loss
from workers.problems.dataset import Dataset
from workers.problems.gradient_checks import check_copies, check_gradient, check_slope
from workers.problems.input_layout import UnpackInputs
from workers.problems.network_outputs import chosen_output
from workers.problems.network_state import NetworkState
from workers.problems.networks import takes_output_size
from workers.problems.user_code import BadReference, first_line
from workers.tasks.problem import Problem

_MOST_CLASSES_UNSEEN = 1000
"""Up to this largest class number, gaps are accepted: a small subset of ImageNet lacks most classes."""


def output_size(data: Dataset, loss: Loss) -> int:
    """Outputs of a network on these data: classes, or targets of an example.

    Raises:
        BadReference: the loss cannot take the targets; one sentence.
    """
    sets = [targets for targets in (data.train_targets, data.test_targets) if len(targets)]
    try:
        sizes = [loss.output_size(targets) for targets in sets]
    except ValueError as error:
        raise BadReference(str(error)) from None
    return max(*sizes, data.classes if loss.counts_classes(data.train_targets) else 1)


def check_classes(problem: Problem, data: Dataset, loss: Loss) -> None:
    """Check that a network with one output for each class number would not have mostly unused outputs.

    Raises:
        BadReference: the largest class number is far larger than the number of classes.
    """
    targets = data.train_targets
    if targets.is_floating_point() or not loss.counts_classes(targets) or data.classes:
        return
    size = output_size(data, loss)
    if size <= _MOST_CLASSES_UNSEEN or not takes_output_size(problem.network):
        return
    seen = len(torch.cat([targets.flatten(), data.test_targets.flatten()]).unique())
    if size > 10 * seen:
        raise BadReference(
            f"data.name {problem.data.name!r} has {seen} different classes with numbers up to {size - 1}, "
            f"and the network would get {size} outputs: number the classes from 0 without gaps, or let "
            "data.labels: map do it"
        )


def adapt(problem: Problem, data: Dataset, module: nn.Module) -> str | None:
    """Change a network in place so that it takes one tensor, returns one tensor, and can be copied.

    A forward pre-hook unpacks several inputs, and a forward hook selects one of several outputs. A weight
    that `nn.utils.weight_norm` has computed belongs to an autograd graph, which `deepcopy` refuses. One call
    without gradients replaces it by a tensor that can be copied; every later call computes it again.

    Returns:
        A sentence on the selected output; None if the network returns one tensor.

    Raises:
        BadReference: the network does not take the inputs, or returns no tensor; one sentence.
    """
    if data.layout is not None:
        module.register_forward_pre_hook(UnpackInputs(data.layout), with_kwargs=True)
    if ":" not in problem.network.name:  # toscore's own networks return one tensor
        return None
    example, training = data.train_inputs[:2], module.training
    outputs = _outputs(problem, data, module.eval(), example.clone(), seed=0)
    module.train(training)
    chosen = chosen_output(problem.network.name, outputs, len(example))
    if chosen is None:
        return None
    hook, note = chosen
    module.register_forward_hook(hook)
    return f"network.name {problem.network.name!r}: {note}"


def check_fit(problem: Problem, data: Dataset, module: nn.Module, loss: Loss) -> torch.dtype:
    """Check that the network takes two examples, and that its loss is a function of the parameters.

    Dropout, and a state that changes during the forward pass, would make the loss a different function at
    each evaluation; both are refused.

    Returns:
        The widest dtype in which the network computes: float64, or its own for a network that fails in it.

    Raises:
        BadReference: the first check that failed; one sentence.
    """
    name = problem.network.name
    if not any(p.requires_grad for p in module.parameters()):
        raise BadReference(
            f"network.name {name!r} has no trainable parameters: leave requires_grad of some at True"
        )
    _check_copyable(name, module)
    example, targets = data.train_inputs[:2].clone(), data.train_targets[:2]
    outputs = _outputs(problem, data, deepcopy(module).eval(), example, seed=0)
    if not torch.equal(example, data.train_inputs[:2]):
        raise BadReference(
            f"network.name {name!r} changes its inputs in place, which other evaluations share: begin its "
            "forward with x = x.clone()"
        )
    _check_users_loss(problem, outputs, targets, loss)
    _check_outputs(name, outputs, targets, output_size(data, loss), loss)
    _check_test_set(problem, data, module, loss)
    trained = deepcopy(module).train()
    before = {n: b.clone() for n, b in trained.named_buffers()}
    first = _outputs(problem, data, trained, example, seed=0)
    again = _outputs(problem, data, deepcopy(module).train(), example, seed=1)
    if not isinstance(first, Tensor) or not isinstance(again, Tensor):
        raise BadReference(
            f"network.name {name!r} returns {type(first).__name__} in training; it must return a "
            "tensor then too (for a network with auxiliary outputs: aux_logits: false)"
        )
    if bool(first.isnan().any()):
        raise BadReference(
            f"network.name {name!r} returns NaN for the first examples at its initial weights: scale the "
            "inputs, or change its initial weights or its forward"
        )
    if not torch.equal(first, again):
        raise BadReference(
            f"network.name {name!r} draws random numbers in training (dropout?), so its loss is no "
            "function of the parameters: set their probability to 0 by its options"
        )
    _check_buffers(name, before, trained)
    if not torch.equal(first, _as_tensor(_outputs(problem, data, trained, example, seed=0))):
        raise BadReference(
            f"network.name {name!r} returns other outputs for the same inputs when it is called again, so "
            "its loss is no function of the parameters: let its forward change nothing"
        )
    check_copies(name, module, example)
    check_gradient(name, module, example, targets, loss)
    return check_slope(name, module, data, loss)


def _check_copyable(name: str, module: nn.Module) -> None:
    """Check that a network can be copied, and that its forward does not change its weights."""
    try:
        deepcopy(module)
    except Exception as error:  # raised by the user's attributes
        raise BadReference(
            f"network.name {name!r} cannot be copied ({first_line(error)}): keep locks, open files and the "
            "like out of it"
        ) from None
    for layer_name, layer in module.named_modules():
        if isinstance(layer, nn.Embedding | nn.EmbeddingBag) and layer.max_norm is not None:
            raise BadReference(
                f"network.name {name!r} has max_norm in {layer_name}, which changes weights in the forward "
                "pass: leave it out"
            )


def _as_tensor(outputs: object) -> Tensor:
    assert isinstance(outputs, Tensor)
    return outputs


def _check_users_loss(problem: Problem, outputs: object, targets: Tensor, loss: Loss) -> None:
    """Call a user's loss function, which may raise anything.

    Raises:
        BadReference: it fails, or does not return one value for each example; one sentence.
    """
    if ":" not in problem.loss.name or not isinstance(outputs, Tensor):
        return
    try:
        loss.check(outputs, targets)
    except Exception as error:
        raise BadReference(
            f"loss.name {problem.loss.name!r} fails on outputs of shape {tuple(outputs.shape)} and targets "
            f"of shape {tuple(targets.shape)}: {first_line(error)}"
        ) from None


def _check_outputs(name: str, outputs: object, targets: Tensor, size: int, loss: Loss) -> None:
    count, classes = len(targets), loss.counts_classes(targets)
    numbered = classes and not targets.is_floating_point()
    if isinstance(outputs, Tensor):
        try:
            loss.check(outputs, targets)
        except (ValueError, RuntimeError, IndexError):
            pass
        else:
            # More outputs than classes are those of a larger vocabulary; some classes may not occur.
            enough = outputs.shape[-1] >= size if numbered else outputs.shape[-1] == size
            if not classes or enough:
                return
    shape = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
    wanted = (*targets.shape, size) if numbered else tuple(targets.shape)
    batch = f"{count} examples of {size} classes" if classes else f"{count} examples"
    raise BadReference(
        f"network.name {name!r} returns {shape} for {batch}; it must return "
        f"({', '.join(map(str, wanted))}){_hint(outputs, targets, size, loss)}"
    )


def _hint(outputs: object, targets: Tensor, size: int, loss: Loss) -> str:
    """Advice for outputs that do not fit, to end the message; empty if no common mistake is recognised."""
    if not isinstance(outputs, Tensor) or not loss.counts_classes(targets):
        return ""
    if targets.is_floating_point():
        return ""
    if targets.ndim == 2 and outputs.ndim == 2:
        if targets.shape[1] == 1:
            return ": targets of shape [n, 1] mean one token each; return [n], or take data.labels: map"
        if bool((targets.sum(1) == 1).all()) and int(targets.max()) == 1:
            return ": targets look one-hot; return floating ones, or take data.labels: map"
    if size == 2 and (outputs.ndim == 1 or outputs.shape[-1] == 1):
        return ", or, with one output for two classes, take loss.name: bce"
    return ""


def _check_test_set(problem: Problem, data: Dataset, module: nn.Module, loss: Loss) -> None:
    """If test examples have another shape than training examples, check that the network takes them."""
    inputs, targets = data.test_inputs[:2].clone(), data.test_targets[:2]
    same = (
        inputs.shape[1:] == data.train_inputs.shape[1:]
        and targets.shape[1:] == data.train_targets.shape[1:]
    )
    if same or not len(inputs):
        return
    outputs = _outputs(problem, data, deepcopy(module).eval(), inputs, seed=0)
    try:
        assert isinstance(outputs, Tensor)
        loss.check(outputs, targets)
    except Exception:  # a user's loss may raise anything
        raise BadReference(
            f"data.name {problem.data.name!r} returns test examples of shape {tuple(inputs.shape[1:])} with "
            f"targets of shape {tuple(targets.shape[1:])}, and training examples of shape "
            f"{tuple(data.train_inputs.shape[1:])} with targets of shape "
            f"{tuple(data.train_targets.shape[1:])}; an example must have one shape in both"
        ) from None


def _check_buffers(name: str, before: dict[str, Tensor], module: nn.Module) -> None:
    statistics = NetworkState.of(module).statistics
    for buffer, value in module.named_buffers():
        if buffer in statistics or (buffer in before and torch.equal(before[buffer], value)):
            continue
        raise BadReference(
            f"network.name {name!r} changes its buffer {buffer} while it computes in training, so its loss "
            "is no function of the parameters: build it without (spectral_norm, running statistics)"
        )


def _outputs(
    problem: Problem, data: Dataset, module: nn.Module, example: Tensor, *, seed: int
) -> object:
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            outputs: object = module(example)
    except (Exception, SystemExit) as error:
        shape = data.input_shape if data.layout is not None else tuple(example.shape[1:])
        raise BadReference(
            f"network.name {problem.network.name!r} does not take the inputs of "
            f"{problem.data.name!r}, of shape {shape}{_integers(data)}: {first_line(error)}"
        ) from None
    return outputs


def _integers(data: Dataset) -> str:
    """A hint for messages that the inputs are integers, which most layers do not take; empty if they are
    not."""
    whole = data.layout is None and not data.train_inputs.is_floating_point()
    return " and integers (floating ones unless they are token ids?)" if whole else ""
