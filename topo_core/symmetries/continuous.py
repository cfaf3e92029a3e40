"""Continuous symmetries of a network, and their tangents: directions along which its loss cannot change.

Each family is checked on the loss, so that a ridge rules out scales but not rotations, and a softmax allows
what squared errors do not.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from topo_core.objectives.protocol import Objective
from topo_core.random_streams import generator
from topo_core.symmetries.checks import rotate, scale
from topo_core.symmetries.tracing import traced_units
from topo_core.symmetries.units import Gauge, Rotation, Shift, Units

_BESIDE = 0.05  # distance of the point at which the loss is compared, in sizes of the parameters
_UNSEEN = 1e-13  # square of a combination of inputs, as a part of the largest, that counts as zero
_DOUBT = 1e-2  # of the square root of the dtype's resolution: the change of the loss that counts as rounding


@dataclass(frozen=True)
class Family:
    """Some continuous symmetries of one kind.

    Attributes:
        name: of the kind, after "explained by".
        tangents: from a point [d] to the directions [q, d] in which it can be moved.
        moved: from a point [d] and a generator of random numbers to the point moved by random amounts.
    """

    name: str
    tangents: Callable[[Tensor], Tensor]
    moved: Callable[[Tensor, torch.Generator], Tensor]


def families(units: Units) -> tuple[Family, ...]:
    """The continuous symmetries among ``units``, larger kinds before those that they contain."""
    rotations = list(units.rotations())
    return (
        *(_scaling(gauge) for gauge in units.gauges if gauge.homogeneous),
        *(_mixing(rotation, orthogonal=False) for rotation in rotations),
        *(_mixing(rotation, orthogonal=True) for rotation in rotations),
        *(_shifting(shift) for shift in units.shifts),
    )


def network_tangents(
    module: nn.Module, objective: Objective, inputs: Tensor | None = None
) -> Callable[[Tensor], Mapping[str, Tensor]]:
    """A function from a point [d] of ``module`` to the tangents [q, d] of its continuous symmetries, by name.

    Only symmetries that keep the loss are named; none for a network whose units cannot be followed.

    Args:
        module: the network; points are its trainable parameters, in the order of ``parameters()``.
        objective: its loss.
        inputs: [n, …], all examples of the loss; None to leave out the symmetries that come from them.
    """

    def tangents(point: Tensor) -> Mapping[str, Tensor]:
        try:
            units = traced_units(module)
        except ValueError:
            return {}
        candidates = [*families(units), *_unseen_inputs(units, inputs)]
        named: dict[str, list[Tensor]] = {}
        for family in exact_families(objective, candidates, point):
            named.setdefault(family.name, []).append(family.tangents(point))
        return {name: torch.cat(rows) for name, rows in named.items()}

    return tangents


def _unseen_inputs(units: Units, inputs: Tensor | None) -> list[Family]:
    """Changes of the weights of first layers by combinations of inputs that are zero in all examples."""
    if inputs is None or not inputs.is_floating_point() or not units.first_layers:
        return []
    rows = inputs.flatten(1).double().cpu()
    rows = torch.cat([rows, torch.ones(len(rows), 1, dtype=torch.float64)], dim=1)
    changes = []
    for weights in units.first_layers:
        seen = rows[:, : weights.shape[1]]
        if seen.shape[1] != weights.shape[1]:
            continue
        values, vectors = torch.linalg.eigh(seen.T @ seen)
        unseen = vectors[:, values <= _UNSEEN * values.max()].T
        if len(unseen):
            changes.append(_changes(weights, unseen))
    return changes


def _changes(weights: Tensor, combinations: Tensor) -> Family:
    """Adding any of ``combinations`` [q, i] of inputs to each row of ``weights`` [u, i]."""
    count = len(weights) * len(combinations)

    def tangents(point: Tensor) -> Tensor:
        rows = point.new_zeros(len(weights), len(combinations), len(point))
        for unit, indices in enumerate(weights):
            rows[unit][:, indices] = combinations.to(point)
        return rows.flatten(0, 1)

    def moved(point: Tensor, draw: torch.Generator) -> Tensor:
        amounts = torch.randn(count, generator=draw, dtype=torch.float64).to(point)
        changes = amounts.reshape(len(weights), -1) @ combinations.to(point)
        copy = point.clone()
        copy[weights] += 0.5 * point.std() * changes
        return copy

    return Family("combinations of inputs that are zero in all examples", tangents, moved)


def exact_families(
    objective: Objective, candidates: Sequence[Family], point: Tensor, *, seed: int = 0
) -> list[Family]:
    """The families that keep the loss, at a random point near ``point`` [d] and for random amounts."""
    if not candidates:
        return []
    draw = generator(seed, "continuous symmetries")
    noise = torch.randn(point.shape, generator=draw, dtype=torch.float64).to(point)
    size = max(float(point.norm()), 1e-3)
    beside = point + _BESIDE * size / math.sqrt(len(point)) * noise
    rows = torch.stack([beside, *(family.moved(beside, draw) for family in candidates)])
    losses = objective.losses(rows)
    allowed = _DOUBT * math.sqrt(torch.finfo(point.dtype).eps) * float(losses[0].abs())
    kept = ((losses[1:] - losses[0]).abs() <= allowed).tolist()
    return [family for family, keeps in zip(candidates, kept, strict=True) if keeps]


def _scaling(gauge: Gauge) -> Family:
    size = len(gauge.incoming[0])

    def tangents(point: Tensor) -> Tensor:
        rows, units = point.new_zeros(size, len(point)), torch.arange(size)[:, None]
        for sign, sides in ((1.0, gauge.incoming), (-1.0, gauge.outgoing)):
            for side in sides:
                rows[units, side] += sign * point[side]
        return rows

    def moved(point: Tensor, draw: torch.Generator) -> Tensor:
        copy = point.clone()
        scale(gauge, copy, (0.5 * torch.randn(size, generator=draw).to(point)).exp())
        return copy

    kind = "ReLU" if gauge.rectified else "linear"
    return Family(f"the rescaling of {kind} units", tangents, moved)


def _mixing(rotation: Rotation, *, orthogonal: bool) -> Family:
    size = len(rotation.first)
    first, second = rotation.first, rotation.second

    def generators() -> list[Tensor]:
        """[d, d] each, a basis of the antisymmetric or of all matrices."""
        one = torch.eye(size, dtype=torch.float64)
        pairs = [(a, b) for a in range(size) for b in range(a if orthogonal else size)]
        return [
            torch.outer(one[a], one[b]) - (torch.outer(one[b], one[a]) if orthogonal else 0.0)
            for a, b in pairs
        ]

    def tangents(point: Tensor) -> Tensor:
        basis = generators()
        rows = point.new_zeros(len(basis), len(point))
        for row, matrix in zip(rows, (one.to(point) for one in basis), strict=True):
            row[first] = matrix @ point[first]
            row[second] = -matrix.T @ point[second]
        return rows

    def moved(point: Tensor, draw: torch.Generator) -> Tensor:
        copy = point.clone()
        matrix = 0.5 * torch.randn(size, size, generator=draw, dtype=torch.float64)
        matrix = matrix - matrix.T if orthogonal else matrix
        rotate(rotation, copy, torch.linalg.matrix_exp(matrix).to(point))
        return copy

    kind = "rotations" if orthogonal else "linear maps"
    return Family(f"{kind} of {rotation.name}", tangents, moved)


def _shifting(shift: Shift) -> Family:
    size = len(shift.weights)

    def tangents(point: Tensor) -> Tensor:
        return (
            _shifted(shift, point, torch.eye(size, dtype=point.dtype, device=point.device)) - point
        )

    def moved(point: Tensor, draw: torch.Generator) -> Tensor:
        amounts = (
            0.5 * point.std() * torch.randn(1, size, generator=draw, dtype=torch.float64).to(point)
        )
        return _shifted(shift, point, amounts)[0]

    return Family(f"shifts of {shift.name}", tangents, moved)


def _shifted(shift: Shift, point: Tensor, amounts: Tensor) -> Tensor:
    """[k, d], ``point`` [d] with each row of ``amounts`` [k, n] added to the n units of a shift."""
    rows = point.repeat(len(amounts), 1)
    weights = shift.weights.flatten()
    rows.index_add_(1, weights, amounts.repeat_interleave(shift.weights.shape[1], dim=1))
    if shift.factors is not None and shift.targets is not None:
        changes = amounts[:, :, None] * point[shift.factors]
        rows.index_add_(1, shift.targets.flatten(), -changes.flatten(1))
    return rows
