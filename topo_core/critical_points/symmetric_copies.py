"""Which minima of a network are copies of each other under its exact symmetries.

Hidden units can be renumbered; behind an odd activation their sign can be flipped; behind a positively
homogeneous one (ReLU) they can be scaled, where the loss has no ridge. None of these changes what the
network computes. Two points are called copies where a symmetry maps one to the other within a tolerance.
Copies may be missed (units that differ by less than the search can distinguish), but points that are not
copies are never called so.

For the search, scales are first brought to a canonical form (incoming weights of each unit have norm 1).
Then the units of one layer after the other are matched by the weights that lead to them, a linear
assignment problem each, which is exact for copies whose units differ; and all weights together are matched
until no layer changes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.cluster.hierarchy import DisjointSet
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from topo_core.objectives.hidden_units import coordinates, hidden_groups

_ROUNDS = 20  # of matching all layers in turn; two suffice for copies whose units differ


@dataclass(frozen=True)
class UnitGroup:
    """Hidden units in the flat parameters of a network.

    Attributes:
        incoming: [size, m] for each parameter that leads to the units: indices into the flat parameters.
        outgoing: the same for each that leads away from them.
        odd: whether units may change their sign.
        homogeneous: whether units may be scaled.
    """

    incoming: tuple[Tensor, ...]
    outgoing: tuple[Tensor, ...]
    odd: bool
    homogeneous: bool

    @property
    def size(self) -> int:
        """How many units."""
        return len(self.incoming[0])


@dataclass(frozen=True)
class NetworkSymmetries:
    """The exact symmetries of a loss of a network.

    Attributes:
        groups: of hidden units, in the order of the layers.
    """

    groups: tuple[UnitGroup, ...]

    @classmethod
    def of(cls, module: nn.Module, *, ridge: bool) -> "NetworkSymmetries":
        """The symmetries of ``module``.

        Args:
            module: the network; flat parameters are in the order of its ``parameters()``.
            ridge: whether the loss contains the norm of the parameters, which no scaling keeps.

        Raises:
            ValueError: for a layer whose units cannot be followed.
        """
        groups = []
        for group in hidden_groups(module):
            rows = dict(zip(group.axes, coordinates(module, group), strict=True))
            incoming = tuple(indices for axis, indices in rows.items() if axis.axis == 0)
            outgoing = tuple(indices for axis, indices in rows.items() if axis.axis == 1)
            # Where layers are added, several weights lead to a unit: their scales are one.
            scales = group.homogeneous and not ridge
            groups.append(UnitGroup(incoming, outgoing, group.odd, scales))
        return cls(tuple(groups))

    def canonical_scales(self, point: Tensor) -> Tensor:
        """``point`` [d] with the incoming weights of each unit that may be scaled brought to norm 1.

        A unit without incoming weights keeps its scale.
        """
        point = point.clone()
        for group in self.groups:
            if group.homogeneous:
                rows = torch.cat([point[indices] for indices in group.incoming], dim=1)
                norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
                norms = torch.where(norms > 0, norms, 1.0)
                for indices in group.incoming:
                    point[indices] = point[indices] / norms
                for indices in group.outgoing:
                    point[indices] = point[indices] * norms
        return point

    def scaling_tangents(self, point: Tensor) -> Tensor:
        """[q, d], the directions in which scaling each of the q units moves ``point`` [d]."""
        tangents = []
        for group in self.groups:
            if group.homogeneous:
                for unit in range(group.size):
                    tangent = torch.zeros_like(point)
                    for sign, sides in ((1, group.incoming), (-1, group.outgoing)):
                        for indices in sides:
                            tangent[indices[unit]] += sign * point[indices[unit]]
                    tangents.append(tangent)
        return torch.stack(tangents) if tangents else point.new_zeros(0, len(point))

    def aligned(self, reference: Tensor, other: Tensor) -> Tensor:
        """The copy of ``other`` [d] that is nearest to ``reference`` [d] among those that were tried.

        Both in canonical scales.
        """
        fixed = self.canonical_scales(reference).double().cpu()
        moved = self.canonical_scales(other).double().cpu()
        for group in self.groups:
            self._match(group, group.incoming, fixed, moved)
        for _ in range(_ROUNDS):
            changed = [
                self._match(group, (*group.incoming, *group.outgoing), fixed, moved)
                for group in self.groups
            ]
            if not any(changed):
                break
        return moved.to(other)

    def distance(self, one: Tensor, other: Tensor) -> float:
        """Between ``one`` and the nearest copy of ``other`` [d], as a part of the larger norm."""
        first = self.canonical_scales(one)
        second = self.aligned(one, other)
        size = max(float(first.norm()), float(second.norm()))
        return float((first - second).norm()) / size if size > 0 else 0.0

    def copy_classes(
        self, points: Tensor, losses: Sequence[float], *, tolerance: float = 1e-4
    ) -> list[int]:
        """For each of ``points`` [n, d] the number of its class: the first point that it is a copy of.

        Args:
            points: minima, or saddles.
            losses: of the points: copies have equal losses, so only those are compared.
            tolerance: of the distance, as a part of the norm; of the losses, its square as a part of
                their range.
        """
        classes = DisjointSet(range(len(points)))
        order = sorted(range(len(points)), key=lambda k: losses[k])
        scale = max(losses, default=0.0) - min(losses, default=0.0)
        near = max(tolerance**2 * scale, 1e-12 * max(map(abs, losses), default=0.0))
        for rank, i in enumerate(order):
            for j in order[rank + 1 :]:
                if losses[j] - losses[i] > near:
                    break
                if not classes.connected(i, j) and self.distance(points[i], points[j]) <= tolerance:
                    classes.merge(i, j)
        return [int(min(classes.subset(k))) for k in range(len(points))]

    @staticmethod
    def _match(group: UnitGroup, sides: Sequence[Tensor], fixed: Tensor, moved: Tensor) -> bool:
        """Renumber and flip the units of ``moved`` [d], in place; true if that reduced the distance."""
        gain = torch.stack([fixed[rows] @ moved[rows].T for rows in sides]).sum(0)
        _, columns = linear_sum_assignment(
            (gain.abs() if group.odd else gain).numpy(), maximize=True
        )
        order, units = torch.as_tensor(columns), torch.arange(group.size)
        signs = torch.ones(group.size, dtype=moved.dtype)
        if group.odd:
            signs[gain[units, order] < 0] = -1.0
        better = float((signs * gain[units, order]).sum() - gain[units, units].sum())
        # Only a strict gain is a change, so that ties cannot go round for ever.
        if not better > 1e-9 * float(gain.abs().sum()):
            return False
        for rows in (*group.incoming, *group.outgoing):
            moved[rows] = signs[:, None] * moved[rows[order]]
        return True
