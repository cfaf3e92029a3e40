"""Which directions without curvature are tangents of exact symmetries of the loss.

Beside the symmetries that are given, there are parameters that the loss does not depend on, such as the
weights of an input that is zero in all examples, or of a ReLU unit that no example activates.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from topo_core.critical_points.counting import CountedObjective
from topo_core.random_streams import generator

WITHOUT_INFLUENCE = "parameters without influence on the loss"
_NEAR = 1e-4  # distance, in sizes of the parameters, of the points at which these have no gradient
_MOVED = 0.1  # by how much they are moved, in sizes
_ALONG = 0.99  # part of a zero mode inside the span of the symmetries, to be one of them
_DEPENDENT = 1e-8  # part of a tangent outside the span of the others, to be one of them


@dataclass(frozen=True)
class ExplainedModes:
    """The span of tangents along which the loss has no curvature.

    Attributes:
        frame: [q, d], orthonormal, in the order of the kinds of symmetries.
        counts: how many rows of it each kind adds to those before.
    """

    frame: Tensor
    counts: Mapping[str, int]

    @classmethod
    def none(cls, point: Tensor) -> "ExplainedModes":
        """No tangents at ``point`` [d]."""
        return cls(point.new_zeros(0, len(point)), {})

    def among(self, modes: Tensor) -> dict[str, int]:
        """How many of the orthonormal ``modes`` [q, d] each kind explains, beyond those before it."""
        explained, before, rows = dict[str, int](), 0, 0
        for name, count in self.counts.items():
            rows += count
            inside = torch.linalg.svdvals(modes @ self.frame[:rows].T) if len(modes) else modes
            total = int((inside >= _ALONG).sum())
            if total > before:
                explained[name] = total - before
            before = max(before, total)
        return explained


def symmetry_modes(
    counted: CountedObjective,
    point: Tensor,
    tangents: Mapping[str, Tensor],
    *,
    largest_image: float,
    largest_change: float,
    memory: int,
    length: float,
    seed: int = 0,
) -> ExplainedModes:
    """The span of ``tangents`` [q, d] by kind, and of parameters that have no influence on the loss.

    Args:
        counted: the loss.
        point: [d], stationary.
        tangents: of continuous symmetries, by what the symmetry is called.
        largest_image: norm up to which the Hessian times a unit vector counts as zero; a kind for which a
            random combination of its tangents exceeds it is left out.
        largest_change: change of the loss that counts as rounding.
        memory: numbers that all tangents together may have; kinds beyond that are left out.
        length: the size of the parameters.
        seed: of the random numbers.
    """
    free = _without_influence(counted, point, largest_change, length, seed)
    kinds = {name: rows for name, rows in tangents.items() if len(rows)}
    if len(free) and len(free) * len(point) <= memory:
        axes = point.new_zeros(len(free), len(point))
        axes[torch.arange(len(free)), free] = 1.0
        kinds = {WITHOUT_INFLUENCE: axes, **kinds}
    draw = generator(seed, "symmetry modes")
    frame, counts = point.new_zeros(0, len(point)), dict[str, int]()
    for name, rows in kinds.items():
        if (len(frame) + len(rows)) * len(point) > memory:
            continue
        weights = torch.randn(len(rows), generator=draw, dtype=torch.float64).to(rows)
        mixed = weights @ rows
        if not float(mixed.norm()) > 0:
            continue
        if not float(counted.product(point, mixed / mixed.norm()).norm()) <= largest_image:
            continue
        new = _new_directions(frame, rows)
        if len(new):
            counts[name] = len(new)
            frame = torch.cat([frame, new])
    return ExplainedModes(frame, counts)


def _new_directions(frame: Tensor, rows: Tensor) -> Tensor:
    """[m, d], orthonormal: the part of the span of ``rows`` [q, d] that is orthogonal to ``frame`` [p, d]."""
    sizes = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    unit = rows[sizes[:, 0] > 0] / sizes[sizes[:, 0] > 0]
    for _ in range(2):  # twice, against cancellation
        unit = unit - (unit @ frame.T) @ frame
    _, values, right = torch.linalg.svd(unit, full_matrices=False)
    directions: Tensor = right[values > _DEPENDENT]
    return directions


def _without_influence(
    counted: CountedObjective, point: Tensor, largest_change: float, length: float, seed: int
) -> Tensor:
    """Indices of the parameters whose gradient is exactly zero near ``point`` [d], and whose move changes
    nothing.
    """
    draw = generator(seed, "parameters without influence")
    noise = torch.randn(3, len(point), generator=draw, dtype=torch.float64).to(point)
    steps = _NEAR * length / len(point) ** 0.5 * noise[:2]
    losses, gradients = counted.batch(point + steps)
    free = (gradients == 0).all(0)
    if bool(free.any()):
        moved = point + steps[0] + torch.where(free, _MOVED * length * noise[2], 0.0)
        change = float((counted.objective.losses(moved[None])[0] - losses[0]).abs())
        if not change <= largest_change:
            free = torch.zeros_like(free)
    indices: Tensor = free.nonzero()[:, 0]
    return indices
