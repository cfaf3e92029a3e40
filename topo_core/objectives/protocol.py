"""The interface of losses.

For this package a loss is a map from rows of parameters ``[k, d]`` to values ``[k]`` and gradients ``[k,
d]``. An objective decides how the k rows are evaluated (stacked networks, a formula, one row after another).
The path and simplex optimisers decide which rows are evaluated.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor


@dataclass(frozen=True)
class Step:
    """Identifies one minibatch: an objective must draw the same minibatch for equal steps.

    Attributes:
        seed: seed of the path or simplex.
        epoch: number of the epoch, from 0.
        batch: index of the minibatch in the epoch, from 0.
    """

    seed: int
    epoch: int
    batch: int


class Objective(Protocol):
    """A loss over parameters, evaluated row by row.

    An objective may also have an attribute ``depth``, the number of layers
    (``network_loss.ModuleObjective``).
    """

    @property
    def dimension(self) -> int | None:
        """d, the length of a row; None if any length is allowed."""

    @property
    def batches(self) -> int:
        """Minibatches in an epoch; 1 means that ``gradients`` is exact."""

    def gradients(self, points: Tensor, step: Step) -> tuple[Tensor, Tensor]:
        """Plain losses [k] and their gradients [k, d] on the minibatch ``step``.

        ``points`` is [k, d]; the results have its dtype and device. No weight decay is added.
        """

    def losses(self, points: Tensor) -> Tensor:
        """Plain losses [k] (float64) of ``points`` [k, d] over the whole training set."""


@runtime_checkable
class SegmentObjective(Protocol):
    """An objective that evaluates points of straight segments more cheaply than free points."""

    def losses_on_segments(self, starts: Tensor, ends: Tensor, alphas: Tensor) -> Tensor:
        """Losses [s, m] (float64) at ``(1 - alphas) starts + alphas ends``.

        ``starts`` and ``ends`` are [s, d]; ``alphas`` [s, m] in [0, 1].
        """


@runtime_checkable
class PathsObjective(Protocol):
    """An objective that evaluates several paths in one call, each on a minibatch of its own."""

    def gradients_of_paths(self, points: Tensor, steps: Sequence[Step]) -> tuple[Tensor, Tensor]:
        """Losses [p, m] and gradients [p, m, d] of ``points`` [p, m, d], path i on ``steps[i]``.

        All p steps must have the same batch index.
        """


@runtime_checkable
class CurvatureObjective(Protocol):
    """An objective with exact gradients and Hessian–vector products over the whole training set.

    Call them through ``topo_core.objectives.curvature``, which also serves objectives without them.
    """

    def full_gradients(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Losses [k] (float64) and gradients [k, d] at ``points`` [k, d]."""

    def hessian_vector_products(self, points: Tensor, vectors: Tensor) -> Tensor:
        """The Hessian at ``points[i]`` times ``vectors[i]``, for each row: [k, d].

        Raises:
            NotImplementedError: the loss has an operation without a second derivative in PyTorch.
        """


def gradients_of_paths(
    objective: Objective, points: Tensor, steps: Sequence[Step]
) -> tuple[Tensor, Tensor]:
    """As ``PathsObjective.gradients_of_paths``; other objectives are evaluated path by path."""
    if len(points) == 1:
        losses, gradients = objective.gradients(points[0], steps[0])
        return losses[None], gradients[None]
    if isinstance(objective, PathsObjective):
        return objective.gradients_of_paths(points, steps)
    each = [objective.gradients(rows, step) for rows, step in zip(points, steps, strict=True)]
    return torch.stack([losses for losses, _ in each]), torch.stack([g for _, g in each])


@dataclass(frozen=True)
class FunctionObjective:
    """An objective given by a formula; see ``from_function``."""

    function: Callable[[Tensor], Tensor]
    dimension: int | None = None
    batches: int = 1

    def gradients(self, points: Tensor, step: Step) -> tuple[Tensor, Tensor]:
        """Values [k] and gradients [k, d]; a formula has no minibatches, ``step`` is not used."""
        del step
        with torch.enable_grad():
            rows = points.detach().requires_grad_(True)
            values = self._values(rows)
            self._check_graph(values)
            (gradients,) = torch.autograd.grad(values.sum(), rows)
        return values.detach(), gradients

    def gradients_of_paths(self, points: Tensor, steps: Sequence[Step]) -> tuple[Tensor, Tensor]:
        """Values [p, m] and gradients [p, m, d]; the paths' rows are evaluated as one batch."""
        losses, gradients = self.gradients(points.flatten(0, 1), steps[0])
        return losses.reshape(points.shape[:2]), gradients.reshape(points.shape)

    def full_gradients(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Values [k] in float64, and gradients [k, d]."""
        values, gradients = self.gradients(points, Step(0, 0, 0))
        return values.to(torch.float64), gradients

    def hessian_vector_products(self, points: Tensor, vectors: Tensor) -> Tensor:
        """Hessians at ``points`` [k, d] times ``vectors`` [k, d], by differentiating twice.

        Raises:
            NotImplementedError: the function has an operation without a second derivative.
        """
        with torch.enable_grad():
            rows = points.detach().requires_grad_(True)
            values = self._values(rows)
            self._check_graph(values)
            (gradients,) = torch.autograd.grad(values.sum(), rows, create_graph=True)
            if not gradients.requires_grad:
                return torch.zeros_like(points)
            slope = (gradients * vectors).sum()
            (products,) = torch.autograd.grad(slope, rows, materialize_grads=True)
        return products.detach()

    def losses(self, points: Tensor) -> Tensor:
        """Values [k] in float64."""
        with torch.no_grad():
            return self._values(points).to(torch.float64)

    def _check_graph(self, values: Tensor) -> None:
        """Check that values depend on the points; otherwise every point would seem to be stationary.

        Raises:
            ValueError: the values have no graph.
        """
        if not values.requires_grad:
            raise ValueError(
                "PyTorch cannot differentiate the function's values with respect to the points: "
                "remove any detach(), item(), numpy() or torch.no_grad() from it."
            )

    def _values(self, points: Tensor) -> Tensor:
        values = self.function(points)
        if values.shape != points.shape[:1]:
            raise ValueError(
                f"the function returned shape {tuple(values.shape)} for points of shape "
                f"{tuple(points.shape)}, and must return one value a row, shape "
                f"({points.shape[0]},)."
            )
        return values


def from_function(
    function: Callable[[Tensor], Tensor], dimension: int | None = None
) -> FunctionObjective:
    """The objective of a differentiable batched ``function``: [k, d] -> [k].

    The value of a row must not depend on other rows. Gradients are exact, so an epoch is one step.
    """
    return FunctionObjective(function, dimension)
