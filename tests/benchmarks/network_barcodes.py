"""Minima of small networks, with verdicts, for the benchmarks of published results.

Random starts are polished and classified, and the accepted ones are grouped into classes of exact copies.
"""

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from topo_core import PolishSettings, Verdict, generator, polish_minimum
from topo_core.objectives.losses import Loss, Ridge
from topo_core.objectives.network_loss import ModuleObjective
from topo_core.objectives.protocol import Objective, from_function
from topo_core.symmetries.network_symmetries import NetworkSymmetries

SPREADS = (0.5, 1.0, 2.0)
"""Standard deviations of the weights of the starts, in turn: minima with large weights need large starts."""


@dataclass(frozen=True)
class Network:
    """A small network on a data set: its loss in float64 with exact gradients, and its exact symmetries."""

    objective: Objective
    symmetries: NetworkSymmetries
    layers: tuple[tuple[int, int], ...]

    @property
    def dimension(self) -> int:
        """Number of parameters, d."""
        return sum((a + 1) * b for a, b in self.layers)

    @classmethod
    def of(
        cls,
        inputs: Tensor,
        targets: Tensor,
        sizes: Sequence[int],
        activation: type[nn.Module],
        loss: Loss,
        ridge: float,
    ) -> "Network":
        """A fully connected network of ``sizes``, from the inputs to the outputs."""
        layers = tuple(itertools.pairwise(sizes))
        modules = [module for a, b in layers for module in (nn.Linear(a, b), activation())][:-1]
        module = nn.Sequential(*modules).double()
        objective = ModuleObjective(
            module, inputs, targets, batch_size=len(inputs), loss=loss, ridge=Ridge(ridge)
        )
        symmetries = NetworkSymmetries.of(module, inputs, ridge=ridge > 0)
        return cls(objective, symmetries, layers)

    @classmethod
    def of_squared_error(
        cls, inputs: Tensor, targets: Tensor, sizes: Sequence[int], ridge: float
    ) -> "Network":
        """A tanh network with one output and squared error, as one function of all parameters.

        Hessians at many points cost a quarter of what those of ``of`` do: these networks have about ten
        parameters, and there each point is evaluated by itself.

        Args:
            inputs: [n, m].
            targets: [n].
            sizes: of the layers, from the inputs to the output.
            ridge: λ of ½λ‖θ‖².
        """
        layers = tuple(itertools.pairwise(sizes))

        def loss(points: Tensor) -> Tensor:
            """Losses [k] of ``points`` [k, d]."""
            units, parts = inputs.T.to(points).expand(len(points), -1, -1), points
            for number, (a, b) in enumerate(layers):
                weights, biases, parts = parts.split(
                    [a * b, b, parts.shape[1] - (a + 1) * b], dim=1
                )
                units = units if number == 0 else units.tanh()
                units = torch.baddbmm(biases[..., None], weights.reshape(-1, b, a), units)
            squares = (units[:, 0] - targets.to(points)).square().mean(1)
            return squares + 0.5 * ridge * points.square().sum(1)

        module = nn.Sequential(
            *[part for a, b in layers for part in (nn.Linear(a, b), nn.Tanh())][:-1]
        ).double()
        symmetries = NetworkSymmetries.of(module, inputs, ridge=ridge > 0)
        return cls(from_function(loss), symmetries, layers)

    def start(self, seed: int, index: int) -> Tensor:
        """[d], random: weights normal with deviation ``SPREADS`` / √inputs, biases with ``SPREADS``."""
        draw, spread = generator(seed, "start", index), SPREADS[index % len(SPREADS)]
        parts = list[Tensor]()
        for a, b in self.layers:
            weights, biases = (
                torch.randn(count, generator=draw, dtype=torch.float64) for count in (a * b, b)
            )
            parts += [spread * weights / math.sqrt(a), spread * biases]
        return torch.cat(parts)


@dataclass(frozen=True)
class Start:
    """The result of polishing a random start.

    Attributes:
        verdict: of the point.
        point: [d].
        loss: there.
    """

    verdict: Verdict
    point: Tensor
    loss: float


@dataclass(frozen=True)
class Minima:
    """Classes of exact copies of the accepted results of polishing.

    Attributes:
        verdicts: number of starts with each verdict.
        points: [n, d], one of each class, lowest first.
        losses: there.
        hits: number of starts that ended in each class.
    """

    verdicts: Counter[Verdict]
    points: Tensor
    losses: tuple[float, ...]
    hits: tuple[int, ...]


def polished(
    network: Network, index: int, *, seed: int, settings: PolishSettings | None = None
) -> Start:
    """Polish random start ``index``."""
    end = polish_minimum(network.objective, network.start(seed, index), settings, seed=seed)
    return Start(end.verdict, end.point, end.loss)


def classes(
    network: Network, starts: Sequence[Start], accepted: Sequence[Verdict] = (Verdict.MINIMUM,)
) -> Minima:
    """Group the ``starts`` whose verdict is ``accepted`` into classes of copies."""
    verdicts = Counter(start.verdict for start in starts)
    kept = [start for start in starts if start.verdict in accepted]
    if not kept:
        return Minima(verdicts, torch.empty(0, network.dimension), (), ())
    losses = [start.loss for start in kept]
    members = network.symmetries.copy_classes(torch.stack([one.point for one in kept]), losses)
    hits = Counter(members)
    order = sorted(hits, key=lambda k: (losses[k], k))
    return Minima(
        verdicts,
        torch.stack([kept[k].point for k in order]),
        tuple(losses[k] for k in order),
        tuple(hits[k] for k in order),
    )


def minima(
    network: Network,
    starts: int,
    *,
    seed: int,
    accepted: Sequence[Verdict] = (Verdict.MINIMUM,),
    settings: PolishSettings | None = None,
) -> Minima:
    """Polish ``starts`` random starts, and group those whose verdict is ``accepted`` into classes."""
    ends = [polished(network, index, seed=seed, settings=settings) for index in range(starts)]
    return classes(network, ends, accepted)


def random_copy(network: Network, point: Tensor, seed: int, *words: int) -> Tensor:
    """``point`` [d] with the hidden units of each layer in a random order, and with random signs if odd."""
    return network.symmetries.random_copy(point, generator(seed, "copy", *words))
