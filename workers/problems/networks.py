"""The paper's networks (Appendix E), a transformer, torchvision's classifiers, and a user's own.

The paper leaves some details open, which are chosen as follows. Convolutions pad by 2, so that the number of
features is the 16·C of Tables E.8–E.10. "n layers" means n hidden layers. `resnet` has the 195,210 parameters
that the paper states: this requires that x6 has no convolution and that the last pooling is global.
`resnet_e7` is Table E.7 as printed, with 234,058 parameters.
"""

import contextlib
import difflib
import inspect
import random
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from topo_core.random_streams import generator
from workers.problems.input_layout import InputShape
from workers.problems.parameter_loss import build_parameter_loss
from workers.problems.transformer import CharacterTransformer
from workers.problems.user_code import BadReference, first_line, resolve, source_fingerprint
from workers.tasks.specs import OBJECTIVE, TORCHVISION, NetworkSpec

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "softplus": nn.Softplus,
    "silu": nn.SiLU,
    "elu": nn.ELU,
    "sigmoid": nn.Sigmoid,
}
"""Activations of toscore's own networks, by name. ReLU has a kink at 0; ELU is continuously differentiable,
but its second derivative jumps at 0; all others are smooth."""


def build(spec: NetworkSpec, input_shape: InputShape, classes: int, seed: int = 0) -> nn.Module:
    """The network of a spec, its weights drawn from `seed` alone.

    Args:
        spec: a known name with its options, or a user's `module:callable`.
        input_shape: shape of one example, without the batch; of several inputs their shapes.
        classes: number of outputs.
        seed: of the initial weights, for torch, numpy and Python alike; the global generators are left as
            they were.

    Raises:
        BadReference: it is missing, or cannot be built with these options; one sentence.
    """
    draw = int(torch.randint(2**62, (1,), generator=generator(seed, "weights")))
    with seeded(draw):
        if spec.name.startswith(TORCHVISION):
            return _torchvisions(spec, classes)
        if spec.name.startswith(OBJECTIVE):
            return build_parameter_loss(spec, draw)
        if ":" in spec.name:
            return _users(spec, input_shape, classes)
        shape = tuple(side for side in input_shape if isinstance(side, int))
        if len(shape) < len(input_shape):
            raise BadReference(
                f"network.name is {spec.name!r}, which takes one input, and the data have {len(input_shape)} "
                "for each example: name a network of your own, which takes all of them"
            )
        try:
            return _BUILDERS[spec.name](shape, classes, spec)
        except (TypeError, ValueError, RuntimeError, ZeroDivisionError) as error:
            options = f" with {spec.keywords()}" if spec.options else ""
            raise BadReference(
                f"network.name is {spec.name!r}, which cannot be built{options} for inputs of shape "
                f"{shape}: {first_line(error)}"
            ) from None


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global generators of torch, numpy and Python inside, and restore their states afterwards."""
    numpy_state, python_state = np.random.get_state(), random.getstate()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(numpy_state)
            random.setstate(python_state)


def network_fingerprint(spec: NetworkSpec) -> str:
    """Identifies the code of a network: source of a user's network, version of torchvision for its own."""
    if spec.name.startswith(TORCHVISION):
        from workers.problems.torchvision_import import version

        return f"{TORCHVISION}{version}"
    name = spec.name.removeprefix(OBJECTIVE)
    return source_fingerprint(name) if ":" in name else "builtin-1"


def count_parameters(module: nn.Module) -> int:
    """Number of trainable scalars."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def takes_output_size(spec: NetworkSpec) -> bool:
    """Whether the network is built with as many outputs as the data ask for."""
    if ":" not in spec.name or spec.name.startswith(TORCHVISION):
        return True
    return bool({"classes", "outputs"} & _parameters(resolve(spec.name)) - set(spec.keywords()))


def _parameters(function: Callable[..., object]) -> set[str]:
    try:
        return set(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return set()


def _users(spec: NetworkSpec, input_shape: InputShape, classes: int) -> nn.Module:
    function = resolve(spec.name)
    offered = {"input_shape": input_shape, "classes": classes, "outputs": classes}
    accepted = _parameters(function)
    offered = {k: v for k, v in offered.items() if k in accepted}
    try:
        module = function(**{**offered, **spec.keywords()})
    except (Exception, SystemExit) as error:
        raise BadReference(
            f"network.name {spec.name!r} fails with {type(error).__name__}: {error}"
        ) from error
    if not isinstance(module, nn.Module):
        raise BadReference(
            f"network.name {spec.name!r} returns {type(module).__name__}; it must return an nn.Module"
        )
    return _usable(spec.name, module, input_shape)


def _usable(name: str, module: nn.Module, input_shape: InputShape) -> nn.Module:
    """A user's network without a wrapper for several devices, and with all its parameters made.

    Raises:
        BadReference: it is compiled to TorchScript, or has complex parameters, or its lazy layers cannot be
            made.
    """
    if isinstance(module, nn.DataParallel):
        module = module.module
    if isinstance(module, torch.jit.ScriptModule):
        raise BadReference(
            f"network.name {name!r} returns a TorchScript module, which cannot be called with other "
            "parameters: return the nn.Module that it was compiled from"
        )
    if any(is_lazy(tensor) for tensor in (*module.parameters(), *module.buffers())):
        _make_lazy_layers(name, module, input_shape)
    if any(p.is_complex() for p in module.parameters()):
        raise BadReference(
            f"network.name {name!r} has complex parameters: hold their real and imaginary parts as two real "
            "ones (torch.view_as_complex)"
        )
    return module


def _make_lazy_layers(name: str, module: nn.Module, input_shape: InputShape) -> None:
    """Call the network with zeros, floating ones first, then token ids."""
    shape = tuple(side for side in input_shape if isinstance(side, int))
    reason = "the data have several inputs for each example"
    if len(shape) == len(input_shape):
        for dtype in (torch.float32, torch.int64):
            try:
                with torch.no_grad():
                    module(torch.zeros(1, *shape, dtype=dtype))
                return
            except Exception as error:
                reason = first_line(error)
    raise BadReference(
        f"network.name {name!r} has lazy layers, which are made when it is first called, and it cannot be "
        f"called with zeros of shape {input_shape} ({reason}): call it once in your function"
    )


def _torchvisions(spec: NetworkSpec, classes: int) -> nn.Module:
    """A classifier of torchvision with random weights; options go to its constructor."""
    from workers.problems.torchvision_import import models

    name = spec.name.removeprefix(TORCHVISION)
    known = models.list_models(module=models)
    if name not in known:
        close = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {TORCHVISION}{close[0]}?" if close else f"it has {', '.join(known)}"
        raise BadReference(
            f"network.name is {spec.name!r}, which is no classifier of torchvision; {hint}"
        )
    try:
        module: nn.Module = models.get_model(
            name, weights=None, num_classes=classes, **spec.keywords()
        )
    except Exception as error:
        raise BadReference(
            f"network.name {spec.name!r} with {spec.keywords()} fails with "
            f"{type(error).__name__}: {error}"
        ) from error
    return module


def _transformer(shape: tuple[int, ...], classes: int, spec: NetworkSpec) -> nn.Module:
    """`layers` blocks of `heads` heads and `width`; 2, 2 and 32 by default; logits of one token or of all."""
    width, heads = spec.option("width", 32), spec.option("heads", 2)
    if len(shape) != 1:
        raise ValueError("it reads windows of characters; take data text, or your own of token ids")
    if heads < 1 or width % heads:
        raise ValueError(f"network.width must be a multiple of network.heads, {heads}")
    layers, every_token = spec.option("layers", 2), spec.option("every_token", False)
    return CharacterTransformer(classes, shape[0], width, heads, layers, every_token=every_token)


def _fc(shape: tuple[int, ...], classes: int, spec: NetworkSpec) -> nn.Module:
    """`hidden` widths, (32, 32) by default, with an activation between: ReLU by default."""
    layers: list[nn.Module] = [nn.Flatten()]
    width = torch.Size(shape).numel()
    for hidden in spec.option("hidden", (32, 32)):
        layers += [nn.Linear(width, hidden), _activation(spec)]
        width = hidden
    return nn.Sequential(*layers, nn.Linear(width, classes))


def _cnn(pools: Sequence[int]) -> Callable[[tuple[int, ...], int, NetworkSpec], nn.Module]:
    """CNN-n-C: per pool a 5x5 convolution to C channels, batch norm if asked for, an activation, the pool.

    With `pooling: mean` and a smooth activation the loss is smooth; a maximum has kinks.
    """

    def make(shape: tuple[int, ...], classes: int, spec: NetworkSpec) -> nn.Module:
        channels = spec.option("channels", 32)
        mean = spec.option("pooling", "max") == "mean"
        layers: list[nn.Module] = []
        width, side = shape[0], shape[-1]
        for pool in pools:
            layers.append(nn.Conv2d(width, channels, 5, padding=2))
            if spec.option("batch_norm", False):
                layers.append(nn.BatchNorm2d(channels))
            layers += [_activation(spec), nn.AvgPool2d(pool) if mean else nn.MaxPool2d(pool)]
            width, side = channels, side // pool
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(side * side * channels, classes))

    return make


def _activation(spec: NetworkSpec) -> nn.Module:
    return ACTIVATIONS[spec.option("activation", "relu")]()


class _Residual(nn.Module):
    """Convolution, activation, convolution, the addition, and an activation after it."""

    def __init__(self, channels: int, activation: nn.Module) -> None:
        super().__init__()
        self.activation = activation
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.second(self.activation(self.first(x)))
        after: Tensor = self.activation(inner + x)
        return after


def _widen(before: int, after: int, spec: NetworkSpec) -> list[nn.Module]:
    return [nn.MaxPool2d(2), nn.Conv2d(before, after, 3, padding=1), _activation(spec)]


def _resnet(*, as_printed: bool) -> Callable[[tuple[int, ...], int, NetworkSpec], nn.Module]:
    """The residual network of Table E.7; `channels` of its first stage are 16 in the paper."""

    def make(shape: tuple[int, ...], classes: int, spec: NetworkSpec) -> nn.Module:
        narrow = spec.option("channels", 16)
        middle, wide = 2 * narrow, 4 * narrow
        side = shape[-1] // 8
        last = _widen(wide, wide, spec) if as_printed else [nn.MaxPool2d(2)]
        pool = 2 if as_printed else side
        outputs = wide * (side // pool) ** 2
        return nn.Sequential(
            nn.Conv2d(shape[0], narrow, 3, padding=1),
            _activation(spec),
            _Residual(narrow, _activation(spec)),
            *_widen(narrow, middle, spec),
            _Residual(middle, _activation(spec)),
            *_widen(middle, wide, spec),
            _Residual(wide, _activation(spec)),
            *last,
            _Residual(wide, _activation(spec)),
            nn.MaxPool2d(pool),
            nn.BatchNorm2d(wide),
            nn.Flatten(),
            nn.Linear(outputs, classes),
        )

    return make


_BUILDERS: dict[str, Callable[[tuple[int, ...], int, NetworkSpec], nn.Module]] = {
    "fc": _fc,
    "cnn1": _cnn((8,)),
    "cnn2": _cnn((2, 4)),
    "cnn3": _cnn((2, 2, 2)),
    "resnet": _resnet(as_printed=False),
    "resnet_e7": _resnet(as_printed=True),
    "transformer": _transformer,
}
