"""Permutations of hidden units: replaces the end of a path by an equivalent network closer to the other end.

The units of a hidden layer can be numbered in any order without a change of the function that the network
computes. So two minima may be far apart only because of their numberings. Weight matching (Ainsworth, Hayase
& Srinivasa 2022) takes the hidden layers in random order. For each it chooses the numbering of the second
network whose weights have the largest inner product with those of the first, a linear assignment problem. It
ends when no layer changes. Channels in groups and attention heads are renumbered in the same way, heads and
the dimensions inside each head alternately.

``topo_core.symmetries`` determines which axes of which parameters are numbered together.
"""

import torch
from torch import Tensor, nn

from topo_core.random_streams import generator
from topo_core.symmetries.tracing import traced_units

_ROUNDS = 100  # largest number of rounds; the search ends with the first round without a change


def weight_matching(
    module: nn.Module, reference: Tensor, other: Tensor, *, seed: int = 0
) -> Tensor:
    """``other`` [d] with its hidden units renumbered to lie near ``reference`` [d].

    Both are flat parameters: the trainable ones, in the order of ``module.parameters()``. The result computes
    the same function as ``other`` (batch norm in its training form: running statistics are buffers, and do
    not take part); the caller should assert that its loss is the same.

    Raises:
        ValueError: the network has a layer whose units cannot be renumbered.
    """
    from scipy.optimize import linear_sum_assignment  # takes a third of a second to import

    try:
        units = traced_units(module)
    except ValueError as error:
        raise ValueError(f"{error} Choose another start than aligned.") from None
    indices = [rows for group in units.groups for rows in group.renumberings()]
    fixed, moved = reference.double().cpu(), other.double().cpu().clone()
    draw = generator(seed, "weight matching")
    for _ in range(_ROUNDS):
        changed = False
        for index in torch.randperm(len(indices), generator=draw).tolist():
            gain = torch.stack([fixed[rows] @ moved[rows].T for rows in indices[index]]).sum(0)
            _, columns = linear_sum_assignment(gain.numpy(), maximize=True)
            order, old = torch.as_tensor(columns), torch.arange(len(gain))
            # Only a strict gain counts as a change, so that ties cannot alternate forever.
            better = gain[old, order].sum() - gain[old, old].sum()
            if float(better) > 1e-9 * float(gain.abs().sum()):
                for rows in indices[index]:
                    moved[rows] = moved[rows[order]]
                changed = True
        if not changed:
            break
    return moved.to(other)
