"""A training loss that ends its task between two evaluations if the worker was asked to stop."""

from collections.abc import Sequence

from torch import Tensor

from topo_core.objectives.network_loss import ModuleObjective
from topo_core.objectives.protocol import Step
from workers.execution.progress import TaskProgress


class InterruptibleLoss:
    """A loss for steps of a task that take minutes: the task need not wait for the end of the step.

    Args:
        loss: computes the values.
        progress: of the task.

    Raises:
        Interrupted: by every evaluation, as `TaskProgress.stop_if_asked`.
    """

    def __init__(self, loss: ModuleObjective, progress: TaskProgress) -> None:
        self._loss, self._progress = loss, progress
        self.dimension, self.batches, self.depth = loss.dimension, loss.batches, loss.depth

    def gradients(self, points: Tensor, step: Step) -> tuple[Tensor, Tensor]:
        self._progress.stop_if_asked()
        return self._loss.gradients(points, step)

    def gradients_of_paths(self, points: Tensor, steps: Sequence[Step]) -> tuple[Tensor, Tensor]:
        self._progress.stop_if_asked()
        return self._loss.gradients_of_paths(points, steps)

    def losses(self, points: Tensor) -> Tensor:
        self._progress.stop_if_asked()
        return self._loss.losses(points)

    def losses_on_segments(self, starts: Tensor, ends: Tensor, alphas: Tensor) -> Tensor:
        self._progress.stop_if_asked()
        return self._loss.losses_on_segments(starts, ends, alphas)

    def full_gradients(self, points: Tensor) -> tuple[Tensor, Tensor]:
        self._progress.stop_if_asked()
        return self._loss.full_gradients(points)

    def hessian_vector_products(self, points: Tensor, vectors: Tensor) -> Tensor:
        self._progress.stop_if_asked()
        return self._loss.hessian_vector_products(points, vectors)
