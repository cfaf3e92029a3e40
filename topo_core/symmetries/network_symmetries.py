"""Which points of a network are copies of each other under its exact symmetries.

Hidden units, channels, groups of channels and attention heads can be renumbered; behind an odd activation the
sign of a unit can be flipped; behind a positively homogeneous one (ReLU) it can be scaled, where the loss has
no ridge; queries and keys of an attention head can be rotated together, and so can its values and the weights
that lead away from them. None of these changes what the network computes, and each is checked on the network
before it is used. Two points are called copies where a symmetry maps one to the other within a tolerance.
Copies may be missed (units that differ by less than the search can distinguish), but points that are not
copies are never called so.

For the search, scales are first brought to a canonical form (incoming weights of each unit have norm 1;
without a ridge, the two families of a rotation are balanced). Then units are matched (``alignment``).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from topo_core.symmetries.alignment import align
from topo_core.symmetries.checks import checked_units, rotate, scale
from topo_core.symmetries.tracing import traced_units
from topo_core.symmetries.units import Rotation, Units


@dataclass(frozen=True)
class NetworkSymmetries:
    """The exact symmetries of a loss of a network.

    Attributes:
        units: groups of units, and their signs and scales.
        ridge: whether the loss contains the norm of the parameters, which no scaling keeps.
    """

    units: Units
    ridge: bool

    @classmethod
    def of(
        cls, module: nn.Module, inputs: Tensor, *, ridge: bool, seed: int = 0
    ) -> "NetworkSymmetries":
        """The symmetries of ``module``, each checked on the outputs for ``inputs``.

        Args:
            module: the network; flat parameters are its trainable ones, in the order of ``parameters()``.
            inputs: some examples, at least two.
            ridge: whether the loss contains the norm of the parameters.
            seed: of the points at which symmetries are checked.

        Raises:
            ValueError: for a layer whose units cannot be followed.
        """
        return cls(checked_units(module, inputs, traced_units(module), seed=seed), ridge)

    def random_copy(self, point: Tensor, draw: torch.Generator) -> Tensor:
        """A copy of ``point`` [d], with random numbers, signs, scales and rotations of its units."""
        copy = point.double().cpu().clone()
        for rows in (rows for group in self.units.groups for rows in group.renumberings()):
            order = torch.randperm(len(rows[0]), generator=draw)
            for side in rows:
                copy[side] = copy[side[order]]
        for gauge in self.units.gauges:
            size = len(gauge.incoming[0])
            factors = torch.ones(size, dtype=torch.float64)
            if gauge.odd:
                factors = 2.0 * torch.randint(2, (size,), generator=draw).double() - 1
            if gauge.homogeneous and not self.ridge:
                factors = factors * (0.5 + torch.rand(size, generator=draw, dtype=torch.float64))
            scale(gauge, copy, factors)
        for rotation in self.units.rotations():
            size = len(rotation.first)
            matrix = torch.randn(size, size, generator=draw, dtype=torch.float64)
            matrix = torch.linalg.qr(matrix).Q
            if not self.ridge:
                matrix = matrix * (0.5 + torch.rand(size, generator=draw, dtype=torch.float64))
            rotate(rotation, copy, matrix)
        return copy.to(point)

    def canonical_scales(self, point: Tensor) -> Tensor:
        """``point`` [d] with everything that may be scaled brought to a canonical scale.

        A unit without incoming weights keeps its scale.
        """
        if self.ridge:
            return point
        point = point.clone()
        for gauge in self.units.gauges:
            if gauge.homogeneous:
                rows = torch.cat([point[indices] for indices in gauge.incoming], dim=1)
                norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
                norms = torch.where(norms > 0, norms, 1.0)
                for indices in gauge.incoming:
                    point[indices] = point[indices] / norms
                for indices in gauge.outgoing:
                    point[indices] = point[indices] * norms
        for rotation in self.units.rotations():
            _balance(rotation, point)
        return point

    def aligned(self, reference: Tensor, other: Tensor) -> Tensor:
        """The copy of ``other`` [d] that is nearest to ``reference`` [d] among those that were tried.

        Both in canonical scales.
        """
        fixed = self.canonical_scales(reference.double().cpu())
        moved = self.canonical_scales(other.double().cpu()).clone()
        align(self.units.groups, self.units.gauges, fixed, moved)
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
        from scipy.cluster.hierarchy import DisjointSet  # takes 0.2 s to import

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


def _balance(rotation: Rotation, point: Tensor) -> None:
    """Scale the two families [d, m1] and [d, m2] alike, in place: both have the same Gram matrix [d, d].

    Their product, which is all that the network sees, is kept: from its singular value decomposition each
    family takes the square roots of the singular values.
    """
    first, second = point[rotation.first].T, point[rotation.second].T
    (left, upper), (right, lower) = torch.linalg.qr(first), torch.linalg.qr(second)
    inner_left, sizes, inner_right = torch.linalg.svd(upper @ lower.T)
    roots = sizes.sqrt()[:, None]
    point[rotation.first] = roots * (left @ inner_left).T
    point[rotation.second] = roots * (right @ inner_right.T).T
