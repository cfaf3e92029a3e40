"""The paper's networks (Appendix E), and a user's own.

Widths, paddings and counts that the text leaves open: convolutions pad by 2, without which the 16·C of
Tables E.8–E.10 does not come out; "n layers" are n hidden layers. `resnet` has the 195,210 parameters
that the text states, reached when x6 has no convolution and the last pooling is global; `resnet_e7`
is Table E.7 as printed, with 234,058.
"""

import inspect
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from topo_core.draws import generator
from workers.references import BadReference, resolve, source_fingerprint
from workers.specs import NetworkSpec


def build(spec: NetworkSpec, input_shape: Sequence[int], classes: int, seed: int = 0) -> nn.Module:
    """The network of a spec, its weights drawn from `seed` alone.

    Args:
        spec: a known name with its options, or a user's `module:callable`.
        input_shape: shape of one example, without the batch.
        classes: number of outputs.
        seed: of the initial weights; the global generator is left as it was.

    Raises:
        BadReference: the callable is not there, fails, or returns no module.
    """
    draw = int(torch.randint(2**62, (1,), generator=generator(seed, "weights")))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(draw)
        if ":" in spec.name:
            return _users(spec, input_shape, classes)
        return _BUILDERS[spec.name](tuple(input_shape), classes, spec)


def network_fingerprint(spec: NetworkSpec) -> str:
    """Stands for the code of the network: the source for a user's, a constant for ours."""
    return source_fingerprint(spec.name) if ":" in spec.name else "builtin-1"


def count_parameters(module: nn.Module) -> int:
    """Trainable scalars."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def _users(spec: NetworkSpec, input_shape: Sequence[int], classes: int) -> nn.Module:
    function = resolve(spec.name)
    offered = {"input_shape": tuple(input_shape), "classes": classes}
    try:
        accepted = set(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        accepted = set()
    offered = {k: v for k, v in offered.items() if k in accepted}
    try:
        module = function(**{**offered, **spec.keywords()})
    except Exception as error:
        raise BadReference(
            f"network.name {spec.name!r} fails with {type(error).__name__}: {error}"
        ) from error
    if not isinstance(module, nn.Module):
        raise BadReference(
            f"network.name {spec.name!r} returns {type(module).__name__}; it must return an nn.Module"
        )
    return module


def _fc(shape: tuple[int, ...], classes: int, spec: NetworkSpec) -> nn.Module:
    """`hidden` widths, ReLU between; (32, 32) by default."""
    layers: list[nn.Module] = [nn.Flatten()]
    width = torch.Size(shape).numel()
    for hidden in spec.option("hidden", (32, 32)):
        layers += [nn.Linear(width, hidden), nn.ReLU()]
        width = hidden
    return nn.Sequential(*layers, nn.Linear(width, classes))


def _cnn(pools: Sequence[int]) -> Callable[[tuple[int, ...], int, NetworkSpec], nn.Module]:
    """CNN-n-C: per pool a 5x5 convolution to C channels, batch norm if asked for, ReLU, the pool."""

    def make(shape: tuple[int, ...], classes: int, spec: NetworkSpec) -> nn.Module:
        channels = spec.option("channels", 32)
        layers: list[nn.Module] = []
        width, side = shape[0], shape[-1]
        for pool in pools:
            layers.append(nn.Conv2d(width, channels, 5, padding=2))
            if spec.option("batch_norm", False):
                layers.append(nn.BatchNorm2d(channels))
            layers += [nn.ReLU(), nn.MaxPool2d(pool)]
            width, side = channels, side // pool
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(side * side * channels, classes))

    return make


class _Residual(nn.Module):
    """Conv, ReLU, Conv, the addition, and a ReLU after it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.second(torch.relu(self.first(x))) + x)


def _widen(before: int, after: int) -> list[nn.Module]:
    return [nn.MaxPool2d(2), nn.Conv2d(before, after, 3, padding=1), nn.ReLU()]


def _resnet(*, as_printed: bool) -> Callable[[tuple[int, ...], int, NetworkSpec], nn.Module]:
    def make(shape: tuple[int, ...], classes: int, spec: NetworkSpec) -> nn.Module:
        side = shape[-1] // 8
        last = _widen(64, 64) if as_printed else [nn.MaxPool2d(2)]
        pool = 2 if as_printed else side
        outputs = 64 * (side // pool) ** 2
        return nn.Sequential(
            nn.Conv2d(shape[0], 16, 3, padding=1),
            nn.ReLU(),
            _Residual(16),
            *_widen(16, 32),
            _Residual(32),
            *_widen(32, 64),
            _Residual(64),
            *last,
            _Residual(64),
            nn.MaxPool2d(pool),
            nn.BatchNorm2d(64),
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
}
