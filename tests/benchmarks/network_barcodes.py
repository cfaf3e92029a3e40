"""Minima of small networks, with verdicts: what the benchmarks of published findings share.

Random starts are polished and judged, and what is accepted is grouped into classes of exact copies.
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
from topo_core.symmetries.network_symmetries import NetworkSymmetries

SPREADS = (0.5, 1.0, 2.0)
"""Standard deviations of the weights of the starts, in turn: minima with large weights need large starts."""


@dataclass(frozen=True)
class Network:
    """A small network on a data set: its loss in float64 with exact gradients, and its exact symmetries."""

    objective: ModuleObjective
    symmetries: NetworkSymmetries
    layers: tuple[tuple[int, int], ...]

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
class Minima:
    """What polishing the starts gave.

    Attributes:
        verdicts: how many starts ended at each.
        points: of the accepted classes [n, d], lowest first.
        losses: theirs.
        hits: starts that ended in each class.
    """

    verdicts: Counter[Verdict]
    points: Tensor
    losses: tuple[float, ...]
    hits: tuple[int, ...]


def minima(
    network: Network,
    starts: int,
    *,
    seed: int,
    accepted: Sequence[Verdict] = (Verdict.MINIMUM,),
    settings: PolishSettings | None = None,
) -> Minima:
    """Polish ``starts`` random starts and keep the classes of those whose verdict is ``accepted``."""
    verdicts, points, losses = Counter[Verdict](), list[Tensor](), list[float]()
    for index in range(starts):
        end = polish_minimum(network.objective, network.start(seed, index), settings, seed=seed)
        verdicts[end.verdict] += 1
        if end.verdict in accepted:
            points.append(end.point)
            losses.append(end.loss)
    if not points:
        return Minima(verdicts, torch.empty(0, network.objective.dimension), (), ())
    classes = network.symmetries.copy_classes(torch.stack(points), losses)
    hits = Counter(classes)
    kept = sorted(hits, key=lambda k: (losses[k], k))
    return Minima(
        verdicts,
        torch.stack([points[k] for k in kept]),
        tuple(losses[k] for k in kept),
        tuple(hits[k] for k in kept),
    )


def random_copy(network: Network, point: Tensor, seed: int, *words: int) -> Tensor:
    """``point`` [d] with the hidden units of each layer in a random order, and with random signs if odd."""
    return network.symmetries.random_copy(point, generator(seed, "copy", *words))
