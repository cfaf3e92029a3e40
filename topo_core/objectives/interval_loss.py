"""Proved ranges of the loss of a small fully connected network along straight lines, by interval arithmetic.

Along a line θ(t) every weight is affine in t. On a piece of the line, weights, activations and their
derivatives with respect to t are enclosed by intervals, layer by layer: Linear layers by products of
intervals (Rump 1999), activations by their monotonicity. This gives a range of dL/dt for the loss L, where t
runs from 0 to 1 on the piece, and L ≤ L(1/2) + max |dL/dt| / 2. With ReLU the loss is the integral of a
derivative that exists almost everywhere, so the same holds.

Rounding in float64: each product of n terms is widened by 2 (n + 2) ε of the product of absolute values
(Higham 2002, section 3.1), and elementary functions by 8 ε, several times the errors that are documented for
the libraries that PyTorch uses. This margin is an assumption that is not checked here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from topo_core.objectives.batching.fully_connected import fully_connected
from topo_core.objectives.flat_parameters import ParameterLayout
from topo_core.objectives.losses import CrossEntropy, Loss, Ridge
from topo_core.objectives.losses.squared_error import SquaredError

_EPS = 2.0**-52
_ULPS = 8 * _EPS  # relative widening of sums of few terms and of elementary functions
_TINY = 1e-300


class Enclosure(NamedTuple):
    """Lower and upper ends, tensors of one shape."""

    low: Tensor
    high: Tensor

    def widened(self) -> "Enclosure":
        """Wider by the rounding of one operation."""
        margin = _ULPS * torch.maximum(self.low.abs(), self.high.abs()) + _TINY
        return Enclosure(self.low - margin, self.high + margin)

    def plus(self, other: "Enclosure") -> "Enclosure":
        """The sum."""
        return Enclosure(self.low + other.low, self.high + other.high).widened()

    def times(self, other: "Enclosure") -> "Enclosure":
        """The product, element by element."""
        ends = torch.stack(
            [
                self.low * other.low,
                self.low * other.high,
                self.high * other.low,
                self.high * other.high,
            ]
        )
        return Enclosure(ends.amin(0), ends.amax(0)).widened()

    def largest(self) -> Tensor:
        """The largest absolute value."""
        return torch.maximum(self.low.abs(), self.high.abs())


def _product(weights: Enclosure, rows: Enclosure) -> Enclosure:
    """Products [k, a, n] of matrices in ``weights`` [k, a, b] and ``rows`` [k or 1, b, n]."""
    wc, xc = 0.5 * (weights.low + weights.high), 0.5 * (rows.low + rows.high)
    wr = torch.maximum(weights.high - wc, wc - weights.low) * (1 + _ULPS)
    xr = torch.maximum(rows.high - xc, xc - rows.low) * (1 + _ULPS)
    centre = wc @ xc
    size = (wc.abs() + wr) @ (xc.abs() + xr)
    radius = wc.abs() @ xr + wr @ (xc.abs() + xr)
    terms = weights.low.shape[-1]
    radius = radius * (1 + (terms + 4) * _EPS) + 2 * (terms + 2) * _EPS * size + _TINY
    return Enclosure(centre - radius, centre + radius).widened()


@dataclass(frozen=True)
class _Smooth:
    """A nondecreasing activation. Its derivative is nondecreasing, or decreases with |z| (``peaked``)."""

    value: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]
    peaked: bool

    def of(self, z: Enclosure) -> tuple[Enclosure, Enclosure]:
        """Ranges of the value and of the derivative on ``z``."""
        value = Enclosure(self.value(z.low), self.value(z.high)).widened()
        if not self.peaked:
            return value, Enclosure(self.slope(z.low), self.slope(z.high)).widened()
        nearest = torch.where(
            (z.low <= 0) & (z.high >= 0),
            torch.zeros_like(z.low),
            torch.minimum(z.low.abs(), z.high.abs()),
        )
        slope = Enclosure(self.slope(z.largest()), self.slope(nearest)).widened()
        # 1 − tanh² has an absolute error of an ulp of 1, not a relative one.
        return value, Enclosure(slope.low - _ULPS, slope.high + _ULPS)


def _softplus(z: Tensor) -> Tensor:
    """log(1 + exp z). PyTorch takes z itself above 20, which is less by 2e-9 at most."""
    return torch.logaddexp(z, torch.zeros_like(z))


def _relu_slope(z: Tensor) -> Tensor:
    return (z > 0).to(z)


_SMOOTH: dict[type[nn.Module], _Smooth] = {
    nn.Tanh: _Smooth(torch.tanh, lambda z: 1 - torch.tanh(z).square(), True),
    nn.Sigmoid: _Smooth(torch.sigmoid, lambda z: torch.sigmoid(z) * torch.sigmoid(-z), True),
    nn.Softplus: _Smooth(_softplus, torch.sigmoid, False),
    nn.ReLU: _Smooth(torch.relu, _relu_slope, False),
}


def _is_known(layer: nn.Module) -> bool:
    if isinstance(layer, nn.Softplus) and (layer.beta, layer.threshold) != (1, 20):
        return False
    return type(layer) in _SMOOTH


class IntervalLoss:
    """The mean loss of a fully connected network, enclosed on pieces of lines.

    Args:
        module: [Flatten,] Linear, activation, …, Linear with biases; tanh, sigmoid, softplus or ReLU.
        inputs, targets: examples; they are taken in float64.
        loss: cross entropy with class numbers, or mean squared error.
        ridge: a ridge that is added to the loss; None for none.

    Raises:
        ValueError: bounds cannot be proved for this network or loss; the message is one sentence.
    """

    def __init__(
        self,
        module: nn.Module,
        inputs: Tensor,
        targets: Tensor,
        *,
        loss: Loss | None = None,
        ridge: Ridge | None = None,
    ) -> None:
        network = fully_connected(module)
        if network is None or not all(map(_is_known, network.activations)):
            raise ValueError(
                "bounds can be proved for chains of Linear layers with tanh, sigmoid, softplus or ReLU "
                "between them, and this network is none"
            )
        self._loss = loss or CrossEntropy()
        classes = (
            self._loss == CrossEntropy() and not targets.is_floating_point() and targets.ndim == 1
        )
        if not classes and not isinstance(self._loss, SquaredError):
            raise ValueError(
                "bounds can be proved for cross entropy of class numbers without options, and for mse; this "
                "loss is none of them"
            )
        self._activations = [_SMOOTH[type(layer)] for layer in network.activations]
        self._layout = ParameterLayout.of(module)
        self._x = inputs.double().flatten(1).T[None]  # [1, width, n]
        width = network.layers[0].in_features
        if self._x.shape[1] != width:
            raise ValueError(
                f"bounds can be proved where the first layer takes all {self._x.shape[1]} numbers of an "
                f"example at once, and that of this network takes {width}"
            )
        self._y = targets if classes else targets.double().view(len(inputs), -1).T
        self._ridge = None if ridge is None or not ridge.strength else ridge.on(self._layout)

    def upper(self, starts: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
        """For pieces from ``starts`` [k, d] to ``ends`` [k, d]: the loss in the middle, and a bound above it.

        Returns:
            Upper bounds [k] of the loss in the middle, close to the loss, and of the loss on the piece.
        """
        starts, ends = starts.double(), ends.double()
        middle = 0.5 * (starts + ends)
        zero = torch.zeros_like(middle)
        at_middle, _ = self._range(Enclosure(middle, middle).widened(), Enclosure(zero, zero))
        piece = Enclosure(torch.minimum(starts, ends), torch.maximum(starts, ends)).widened()
        change = ends - starts
        _, slopes = self._range(piece, Enclosure(change, change).widened())
        half = 0.5 * slopes.largest() * (1 + _ULPS)
        bound = (at_middle.high + half) * (1 + _ULPS) + _TINY
        return at_middle.high, bound.nan_to_num(nan=torch.inf, posinf=torch.inf)  # NaN: an overflow

    def _range(self, points: Enclosure, change: Enclosure) -> tuple[Enclosure, Enclosure]:
        """Ranges [k] of the loss at ``points`` [k, d], and of its derivative with θ' in ``change`` [k, d]."""
        views = [list(self._layout.views(end).values()) for end in (*points, *change)]
        x, dx = Enclosure(self._x, self._x), Enclosure(0 * self._x, 0 * self._x)
        for number in range(len(self._activations) + 1):
            weight, bias = (
                [
                    Enclosure(views[i][2 * number + part], views[i + 1][2 * number + part])
                    for i in (0, 2)
                ]
                for part in (0, 1)
            )
            z = _product(weight[0], x).plus(_column(bias[0]))
            dz = _product(weight[1], x).plus(_column(bias[1]))
            if number:
                dz = dz.plus(_product(weight[0], dx))
            if number == len(self._activations):
                break
            x, slope = self._activations[number].of(z)
            dx = slope.times(dz)
        value, derivative = self._of_outputs(z, dz)
        if self._ridge is not None:
            value, derivative = self._with_ridge(points, change, value, derivative)
        return value, derivative

    def _of_outputs(self, z: Enclosure, dz: Enclosure) -> tuple[Enclosure, Enclosure]:
        """Ranges of the mean loss [k] and its derivative, from outputs [k, c, n] and theirs."""
        if self._y.ndim == 2:
            off = Enclosure(z.low - self._y, z.high - self._y).widened()
            low = torch.where(
                (off.low <= 0) & (off.high >= 0), 0.0, torch.minimum(off.low.abs(), off.high.abs())
            )
            square = Enclosure(low.square(), off.largest().square()).widened()
            change = off.times(dz)
            return _mean(square), _mean(Enclosure(2 * change.low, 2 * change.high))
        own = self._y.view(1, 1, -1).expand(len(z.low), 1, -1)
        apart = Enclosure(z.low - z.high.gather(1, own), z.high - z.low.gather(1, own)).widened()
        apart = Enclosure(apart.low.scatter(1, own, 0.0), apart.high.scatter(1, own, 0.0))
        value = Enclosure(apart.low.logsumexp(1), apart.high.logsumexp(1)).widened()
        rounding = _ULPS + len(z.low[0]) * _EPS  # of the sum of the exponentials, relative
        value = Enclosure(value.low - rounding, value.high + rounding)
        change = Enclosure(
            dz.low - dz.high.gather(1, own), dz.high - dz.low.gather(1, own)
        ).widened()
        change = Enclosure(change.low.scatter(1, own, 0.0), change.high.scatter(1, own, 0.0))
        derivative = _shares(z).times(change)
        terms = Enclosure(derivative.low.sum(1), derivative.high.sum(1))
        size = derivative.largest().sum(1) * len(derivative.low[0]) * _EPS
        return _mean(value), _mean(Enclosure(terms.low - size, terms.high + size))

    def _with_ridge(
        self, points: Enclosure, change: Enclosure, value: Enclosure, derivative: Enclosure
    ) -> tuple[Enclosure, Enclosure]:
        """Ranges with the ridge ½ λ Σ θ², whose derivative is λ Σ θ θ'."""
        assert self._ridge is not None
        width = points.low.shape[1]
        least = torch.where(
            (points.low <= 0) & (points.high >= 0),
            0.0,
            torch.minimum(points.low.abs(), points.high.abs()),
        )
        slope = torch.zeros_like(least)
        self._ridge.add_gradients_(slope, torch.ones_like(least))  # λ or 0 of each parameter
        product = points.times(change)
        parts = [
            (slope * part).sum(1)
            for part in (
                0.5 * least.square(),
                0.5 * points.largest().square(),
                product.low,
                product.high,
            )
        ]
        size = (slope * product.largest()).sum(1) * width * _EPS
        growth = 1 + (width + 4) * _EPS
        ridge = Enclosure(parts[0] / growth, parts[1] * growth)
        return value.plus(ridge), derivative.plus(Enclosure(parts[2] - size, parts[3] + size))


def _column(bias: Enclosure) -> Enclosure:
    return Enclosure(bias.low[:, :, None], bias.high[:, :, None])


def _shares(z: Enclosure) -> Enclosure:
    """Ranges of softmax over axis 1."""
    low, high = [], []
    for c in range(z.low.shape[1]):
        rest = [k for k in range(z.low.shape[1]) if k != c]
        most = (z.high[:, rest] - z.low[:, c : c + 1]).exp().sum(1)
        least = (z.low[:, rest] - z.high[:, c : c + 1]).exp().sum(1)
        low.append(1 / (1 + most))
        high.append(1 / (1 + least))
    share = Enclosure(torch.stack(low, 1), torch.stack(high, 1))
    # Exponents of differences up to 709 have relative errors of 709 ε, and sums of n terms of n ε.
    margin = 2 * (709 + z.low.shape[1]) * _EPS
    return Enclosure(share.low * (1 - margin), share.high * (1 + margin))


def _mean(values: Enclosure) -> Enclosure:
    """The mean over all axes but the first, widened by the rounding of the sum."""
    low, high = values.low.flatten(1), values.high.flatten(1)
    size = torch.maximum(low.abs(), high.abs()).mean(1) * (low.shape[1] + 4) * _EPS + _TINY
    return Enclosure(low.mean(1) - size, high.mean(1) + size)
