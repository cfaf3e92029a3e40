"""Small tanh networks whose minima, saddles and barcodes are known.

The numbers are in ``known/``; each file says how they were found, by code that shares nothing with this
project. Parameters are those of ``nn.Sequential(Linear, Tanh, Linear)`` in its order: weights row by row,
then biases, layer after layer. Symmetric copies (permutations and signs of hidden units, and swapped inputs
of XOR) are left out: one point stands for each class.
"""

import json
import math
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any

import torch
from torch import Tensor

from topo_core.objectives.protocol import from_function
from topo_core.reference_landscapes.landscape import Landscape


def tanh_regression() -> Landscape:
    """A 1-2-1 network, squared error on a sum of four waves at 101 points, ridge 10⁻³: 7 parameters."""
    x = torch.linspace(-math.pi, math.pi, 101, dtype=torch.float64)
    y = 0.31 * (-x).sin() - 0.72 * (-2 * x).sin() - 0.21 * x.cos() + 0.89 * (2 * x).cos()

    def loss(points: Tensor) -> Tensor:
        outputs = _outputs(points, x[:, None].to(points), (1, 2, 1))[..., 0]
        return (outputs - y.to(points)).square().mean(1)

    return _known("tanh_regression", loss, 1e-3)


def xor() -> Landscape:
    """A 2-2-2 network, cross entropy on XOR, ridge 10⁻²: 12 parameters."""
    inputs = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
    return _known("xor", _cross_entropy(inputs, [0, 1, 1, 0], (2, 2, 2)), 1e-2)


def iris() -> Landscape:
    """A 4-3-3 network, cross entropy on Fisher's 150 irises, standardised, ridge 10⁻³: 27 parameters."""
    known = _resource("iris")
    lengths = 0.1 * torch.tensor(known["measurements_in_millimetres"], dtype=torch.float64)
    inputs = (lengths - lengths.mean(0)) / lengths.std(0, correction=0)
    return _known("iris", _cross_entropy(inputs, known["species"], (4, 3, 3)), 1e-3)


def _cross_entropy(
    inputs: Tensor, labels: Sequence[int], sizes: tuple[int, int, int]
) -> Callable[[Tensor], Tensor]:
    rows = torch.arange(len(labels))
    targets = torch.tensor(labels)

    def loss(points: Tensor) -> Tensor:
        outputs = _outputs(points, inputs.to(points), sizes)
        chances = torch.log_softmax(outputs, dim=2)
        return -chances[:, rows.to(points.device), targets.to(points.device)].mean(1)

    return loss


def _outputs(points: Tensor, inputs: Tensor, sizes: tuple[int, int, int]) -> Tensor:
    """[k, n, outputs] of networks with parameters ``points`` [k, d] on ``inputs`` [n, inputs]."""
    count, hidden, last = sizes
    parts = points.split([hidden * count, hidden, last * hidden, last], dim=1)
    first = parts[0].reshape(-1, hidden, count).transpose(1, 2)
    second = parts[2].reshape(-1, last, hidden).transpose(1, 2)
    units = torch.tanh(inputs @ first + parts[1][:, None])
    outputs: Tensor = units @ second + parts[3][:, None]
    return outputs


def _known(name: str, loss: Callable[[Tensor], Tensor], ridge: float) -> Landscape:
    known = _resource(name)

    def points(key: str, field: str) -> Tensor:
        return torch.tensor([one[field] for one in known[key]], dtype=torch.float64)

    minima = points("minima", "theta")
    return Landscape(
        objective=from_function(
            lambda rows: loss(rows) + 0.5 * ridge * rows.square().sum(1), minima.shape[1]
        ),
        minima=minima,
        losses=points("minima", "loss"),
        passes={},
        saddles=points("saddles", "theta"),
        saddle_ends=points("saddles", "ends"),
        barcode=tuple(
            (birth, math.inf if death is None else death) for birth, death in known["barcode"]
        ),
    )


def _resource(name: str) -> dict[str, Any]:
    text = files("topo_core.reference_landscapes").joinpath(f"known/{name}.json").read_text()
    contents: dict[str, Any] = json.loads(text)
    return contents
