"""Renumbers, flips and rotates the units of one point so that it comes as near to another as possible.

Groups are matched one after the other, a linear assignment problem each; signs and rotations (orthogonal
Procrustes problems) are part of the gain of each pair of units. At first only weights count that no group
still to be matched touches: for copies whose units differ, this is exact. Then all weights together are
matched until no group changes.
"""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from topo_core.symmetries.units import Axis, Gauge, Group, Rotation

_ROUNDS = 20  # of matching all groups in turn; two suffice for copies whose units differ
_STRICT = 1e-9  # least gain, as a part of all, so that ties cannot alternate for ever
_INNER = 2  # rounds inside a block
_SAME = 1e-12  # distance, as a part of the norm, at which nothing is left to match


def align(groups: Sequence[Group], gauges: Sequence[Gauge], fixed: Tensor, moved: Tensor) -> None:
    """Move ``moved`` [d], in place, near ``fixed`` [d]. Both in float64 on the CPU."""
    everything = torch.ones(len(fixed), dtype=torch.bool)
    _align(groups, fixed, moved, everything, 0)
    # Every pair of blocks costs a match of what is inside, so blocks are renumbered once more only.
    inner = [one for group in groups for one in _without_blocks(group)]
    for number in range(_ROUNDS):
        if float((fixed - moved).norm()) <= _SAME * float(fixed.norm()):
            break
        changed = [_flip(gauge, fixed, moved) for gauge in gauges if gauge.odd]
        again = inner if number else groups
        changed += [_match(group, fixed, moved, everything) for group in again]
        if not any(changed):
            break


def _without_blocks(group: Group) -> list[Group]:
    """The group; for blocks with groups inside, these groups."""
    if group.rotations or not group.inside:
        return [group]
    return [one for unit in group.inside for one in unit]


def _flip(gauge: Gauge, fixed: Tensor, moved: Tensor) -> bool:
    """Change the signs of the units that come nearer by it; whether there are any."""
    sides = (*gauge.incoming, *gauge.outgoing)
    gain = torch.stack([(fixed[rows] * moved[rows]).sum(1) for rows in sides])
    turned = gain.sum(0) < -_STRICT * float(gain.abs().sum())
    for rows in sides:
        moved[rows[turned]] *= -1
    return bool(turned.any())


def _align(
    groups: Sequence[Group], fixed: Tensor, moved: Tensor, clear: Tensor, rounds: int
) -> None:
    """Match ``groups`` one after the other, and then again in at most ``rounds`` rounds."""
    touched = torch.zeros(len(fixed), dtype=torch.int64)
    for group in groups:
        _touch(touched, group, 1)
    for group in groups:
        # Weights that this group alone still touches, and with one of its axes only.
        _match(group, fixed, moved, clear & (touched <= 1))
        _touch(touched, group, -1)
    for _ in range(rounds):
        changed = [_match(group, fixed, moved, clear) for group in groups]
        if not any(changed):
            break


def _touch(touched: Tensor, group: Group, change: int) -> None:
    for axis in group.axes:
        touched[axis.rows] += change


def _match(group: Group, fixed: Tensor, moved: Tensor, clear: Tensor) -> bool:
    """Renumber a group and what is inside it; whether that reduced the distance.

    Only weights that are ``clear`` [d] count; if there are none, sizes of sorted weights.
    """
    clean = [axis.rows[:, clear[axis.rows].all(0)] for axis in group.axes]
    identity, signs = torch.arange(group.size), dict[int, Tensor]()
    if group.inside or group.rotations:
        gain = _block_gains(group, fixed, moved, clear)
        now = _products(fixed, moved, clean).diagonal()
    elif any(rows.shape[1] for rows in clean):
        gain, signs = _signed_gains(group.axes, clean, fixed, moved)
        now = _products(fixed, moved, clean).diagonal()
    else:
        sorted_rows = [
            (fixed[axis.rows].abs().sort(1).values, moved[axis.rows].abs().sort(1).values)
            for axis in group.axes
        ]
        gain = sum((a @ b.T for a, b in sorted_rows), torch.zeros(group.size, group.size).double())
        now = gain.diagonal()
    from scipy.optimize import linear_sum_assignment  # takes a third of a second to import

    _, columns = linear_sum_assignment(gain.numpy(), maximize=True)
    order = torch.as_tensor(columns)
    better = float(gain[identity, order].sum() - now.sum())
    if not better > _STRICT * float(gain.abs().sum()):
        return False
    for axis in group.axes:
        moved[axis.rows] = moved[axis.rows[order]]
        for gauge in axis.gauges:
            if gauge in signs:
                moved[axis.rows] *= signs[gauge][identity, order][:, None]
    for block in range(group.size):
        _match_inside(group, block, fixed, moved, clear)
    return True


def _match_inside(group: Group, block: int, fixed: Tensor, moved: Tensor, clear: Tensor) -> None:
    """Rotate what is inside a block, or else renumber it: a rotation can renumber as well."""
    if group.rotations:
        for rotation in group.rotations[block]:
            _rotate(rotation, fixed, moved, clear)
    elif group.inside:
        _align(group.inside[block], fixed, moved, clear, _INNER)


def _products(fixed: Tensor, moved: Tensor, sides: Sequence[Tensor]) -> Tensor:
    """[n, n], inner products of the weights of each unit of ``fixed`` with those of each of ``moved``."""
    n = len(sides[0])
    return sum((fixed[rows] @ moved[rows].T for rows in sides), torch.zeros(n, n).double())


def _signed_gains(
    axes: Sequence[Axis], clean: Sequence[Tensor], fixed: Tensor, moved: Tensor
) -> tuple[Tensor, dict[int, Tensor]]:
    """Inner products [n, n] with the best signs, and these signs [n, n] by the number of their gauge.

    Gauges that act on one axis together are decided together.
    """
    from scipy.cluster.hierarchy import DisjointSet  # takes 0.2 s to import

    products = [fixed[rows] @ moved[rows].T for rows in clean]
    together = DisjointSet({gauge for axis in axes for gauge in axis.gauges})
    for axis in axes:
        for gauge in axis.gauges[1:]:
            together.merge(axis.gauges[0], gauge)
    gain = torch.zeros_like(products[0])
    for axis, product in zip(axes, products, strict=True):
        if not axis.gauges:
            gain += product
    signs: dict[int, Tensor] = {}
    for subset in together.subsets():
        gauges = sorted(subset)
        choices = list(itertools.product((1.0, -1.0), repeat=len(gauges)))
        values = torch.stack(
            [
                sum(
                    (
                        _sign(axis, dict(zip(gauges, choice, strict=True))) * product
                        for axis, product in zip(axes, products, strict=True)
                        if axis.gauges and axis.gauges[0] in subset
                    ),
                    torch.zeros_like(gain),
                )
                for choice in choices
            ]
        )
        best, which = values.max(0)
        gain = gain + best
        table = torch.tensor(choices, dtype=torch.float64)
        signs |= {gauge: table[which, number] for number, gauge in enumerate(gauges)}
    return gain, signs


def _sign(axis: Axis, choice: dict[int, float]) -> float:
    sign = 1.0
    for gauge in axis.gauges:
        sign *= choice[gauge]
    return sign


def _block_gains(group: Group, fixed: Tensor, moved: Tensor, clear: Tensor) -> Tensor:
    """[n, n], inner products of blocks after what is inside them was matched."""
    gain = torch.zeros(group.size, group.size, dtype=torch.float64)
    trial = moved.clone()
    for i, j in itertools.product(range(group.size), repeat=2):
        for axis in group.axes:
            trial[axis.rows[i]] = moved[axis.rows[j]]
        _match_inside(group, i, fixed, trial, clear)
        for axis in group.axes:
            kept = axis.rows[i][clear[axis.rows[i]]]
            product = fixed[kept] @ trial[kept]
            # Signs of blocks are decided later.
            gain[i, j] += product.abs() if axis.gauges else product
        for axis in group.axes:
            trial[axis.rows[i]] = moved[axis.rows[i]]
    return gain


def _rotate(rotation: Rotation, fixed: Tensor, moved: Tensor, clear: Tensor) -> None:
    """The orthogonal matrix, applied to both families, that brings them nearest to those of ``fixed``."""
    product = torch.zeros(len(rotation.first), len(rotation.first), dtype=torch.float64)
    for rows in (rotation.first, rotation.second):
        clean = rows[:, clear[rows].all(0)]
        product += fixed[clean] @ moved[clean].T
    left, _, right = torch.linalg.svd(product)
    for rows in (rotation.first, rotation.second):
        moved[rows] = left @ right @ moved[rows]
