"""Heights of our paths where single coordinates have other units: L'(u) = L(S u) with a diagonal S.

    python -m tests.benchmarks.rescaled                                   # digits, one pair, all S
    python -m tests.benchmarks.rescaled landscapes=digits,noisy,minibatches pairs=3 budgets=1700,5100
    python -m tests.benchmarks.rescaled units=none     # without units of the coordinates, as it was before

The landscapes are those of `heights barriers`, and every S leaves minima and heights as they are:

- `given`: S = 1.
- `coordinates`: log-uniform in [0.01, 100], for each coordinate.
- `inputs`: the same, for the weights of each input: data that nobody has standardised.
- `layers`: from 0.01 in the first layer to 100 in the last.
- `stiff`: 1000 in one bias of the first layer.
"""

import itertools
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from unittest import mock

import torch
from torch import Tensor

from tests.benchmarks.barrier_landscapes import LANDSCAPES, Case
from tests.benchmarks.barriers import our_path
from topo_core.objectives.curvature import full_gradients, hessian_vector_products
from topo_core.objectives.protocol import Objective, Step
from topo_core.paths.starts import trained_curves
from topo_core.random_streams import generator

WIDTHS = {
    "digits": (64, 16, 10),
    "noisy": (64, 16, 16, 10),
    "minibatches": (784, 12, 10),
}


@dataclass(frozen=True)
class Rescaled:
    """`objective` in coordinates u = θ / `scale` [d]."""

    objective: Objective
    scale: Tensor

    @property
    def dimension(self) -> int | None:
        """As of the objective."""
        return self.objective.dimension

    @property
    def batches(self) -> int:
        """As of the objective."""
        return self.objective.batches

    def gradients(self, points: Tensor, step: Step) -> tuple[Tensor, Tensor]:
        """Losses [k] and gradients [k, d] on a minibatch."""
        losses, gradients = self.objective.gradients(points * self.scale, step)
        return losses, gradients * self.scale

    def losses(self, points: Tensor) -> Tensor:
        """Losses [k] (float64)."""
        return self.objective.losses(points * self.scale)

    def full_gradients(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Losses [k] (float64) and gradients [k, d] over the whole training set."""
        losses, gradients = full_gradients(self.objective, points * self.scale)
        return losses, gradients * self.scale

    def hessian_vector_products(self, points: Tensor, vectors: Tensor) -> Tensor:
        """Hessians at `points` [k, d] times `vectors` [k, d]."""
        scaled = points * self.scale, vectors * self.scale
        return hessian_vector_products(self.objective, *scaled) * self.scale


def scales(widths: tuple[int, ...]) -> Iterator[tuple[str, Tensor]]:
    """The diagonals of S [d] by name, for a fully connected network of these widths."""
    layers = list(itertools.pairwise(widths))
    sizes = [last * (first + 1) for first, last in layers]

    def drawn(name: str, count: int) -> Tensor:
        draw = generator(7, "rescaled", name)
        exponents: Tensor = 4 * torch.rand(count, generator=draw, dtype=torch.float64) - 2
        return 10**exponents

    ones = torch.ones(sum(sizes), dtype=torch.float64)
    yield "given", ones
    yield "coordinates", drawn("coords", sum(sizes))
    (inputs, hidden), first = layers[0], layers[0][0] * layers[0][1]
    yield "inputs", torch.cat([drawn("inputs", inputs).repeat(hidden), ones[first:]])
    steps = torch.linspace(-2, 2, len(sizes), dtype=torch.float64)
    yield "layers", (10**steps).repeat_interleave(torch.tensor(sizes))
    stiff = ones.clone()
    stiff[first + 3] = 1000
    yield "stiff", stiff


def main(arguments: list[str]) -> dict[tuple[str, str, int, str], float]:
    """Print the heights, and return them by landscape, pair, budget and name of S."""
    options = dict(argument.split("=", 1) for argument in arguments)
    torch.set_num_threads(1)
    heights = {}
    for name in options.get("landscapes", "digits").split(","):
        for case in LANDSCAPES[name](int(options.get("pairs", "1"))):
            for budget in map(int, options.get("budgets", "1700,5100").split(",")):
                for kind, scale in scales(WIDTHS[name]):
                    height = _height(case, scale.to(case.start), budget, options)
                    heights[name, case.name, budget, kind] = height
                    print(f"{name} {case.name} {budget} {kind}: {height:.5f}", flush=True)
    return heights


def _height(case: Case, scale: Tensor, budget: int, options: dict[str, str]) -> float:
    """Height of our path above the higher minimum, in coordinates divided by `scale` [d]."""
    rescaled = replace(
        case,
        objective=Rescaled(case.objective, scale),
        start=case.start / scale,
        end=case.end / scale,
    )
    none = mock.patch.object(trained_curves, "coordinate_units", lambda *_: (None, 0))
    if options.get("units") == "none":
        with none:
            return our_path(rescaled, budget).profile.maximum - case.birth
    return our_path(rescaled, budget).profile.maximum - case.birth


if __name__ == "__main__":
    main(sys.argv[1:])
