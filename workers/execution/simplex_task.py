"""The task that optimises one simplex."""

import itertools
from dataclasses import asdict

import torch

from topo_core.paths.convergence import Outcome
from topo_core.random_streams import seed_of
from topo_core.simplices.faces import SimplexBoundary, simplex_boundary
from topo_core.simplices.optimize import SimplexSolution, simplex_solutions
from topo_core.simplices.solver import advance_simplices, begin_simplices, simplex_is_finished
from topo_core.simplices.state import SimplexState
from workers.execution.progress import TaskFailure
from workers.execution.task_run import TaskContext, run_task
from workers.storage.schema import ResultRecord, SimplexRecord
from workers.tasks.results import FailureKind
from workers.tasks.simplex_tasks import OptimizeSimplex


def optimize_one_simplex(task: OptimizeSimplex, context: TaskContext) -> ResultRecord:
    """Initialise a simplex from its optimised faces, and optimise its interior.

    Raises:
        TaskFailure: the loss diverged.
        Damaged: a minimum or a face cannot be read.
        Interrupted: the worker was asked to stop; the last checkpoint is published.
    """
    return run_task(SimplexRun(task, context), context.progress)


class SimplexRun:
    """The optimisation of one simplex, with its checkpoints; see `TaskRun`.

    Args:
        task: the simplex to optimise.
        context: the problem, the store and the progress.
    """

    def __init__(self, task: OptimizeSimplex, context: TaskContext) -> None:
        self.key, self._task, self._context = task.key, task, context
        self._settings = task.settings
        self._objective = context.loaded.objective(task.settings.batch_size)
        self._seed = seed_of(task.seed, "simplex", task.key)
        self._total = task.settings.total_epochs(self._objective.batches)
        self._boundary = _boundary(task, context)

    def begin(self) -> SimplexState:
        checkpoint = self._context.store.latest_checkpoint(self.key)
        if checkpoint is not None:
            tensors = self._context.loaded.on_device(checkpoint.tensors)
            return SimplexState.restore(tensors, checkpoint.scalars)
        around = self._boundary
        (state,) = begin_simplices(
            self._objective,
            [around.points],
            [max(around.maxima.values())],
            len(self._task.vertices) - 1,
            self._settings,
        )
        return state

    def is_finished(self, state: SimplexState) -> bool:
        return simplex_is_finished(state, self._settings)

    def advance(self, state: SimplexState) -> SimplexState:
        (advanced,) = advance_simplices(
            self._objective, [state], self._settings, self._seed, until_epoch=state.epoch + 1
        )
        return advanced

    def keep(self, state: SimplexState, *, due: bool) -> None:
        if due and not self.is_finished(state):
            self._context.store.publish_checkpoint(
                self.key, state.epoch, state.tensors(), state.scalars()
            )

    def share(self, state: SimplexState) -> float:
        return state.epoch / self._total

    def end(self, state: SimplexState) -> SimplexRecord:
        task, store = self._task, self._context.store
        (simplex,) = simplex_solutions(self._objective, [state], self._settings)
        if simplex.outcome is Outcome.DIVERGED:
            store.drop_checkpoints(task.key)
            raise TaskFailure(FailureKind.DIVERGED, simplex.reason)
        name = store.publish_simplex(
            task.key,
            {"points": simplex.points},
            vertices=list(task.vertices),
            minima=list(task.minima),
        )
        return _record(task, self._boundary, simplex, self._total, name)


def _boundary(task: OptimizeSimplex, context: TaskContext) -> SimplexBoundary:
    """The boundary of a simplex: its faces from the store, resampled on the lattice of the simplex."""
    count, loaded, store = len(task.vertices), context.loaded, context.store
    states = [store.read_minimum(task.object_of(key)) for key in task.minima]
    vertices = torch.stack([loaded.flat(state) for state in states])
    read = store.read_path if count == 3 else store.read_simplex
    faces = {
        face: read(task.object_of(key))["points"].to(vertices)
        for face, key in zip(
            itertools.combinations(range(count), count - 1), task.faces, strict=True
        )
    }
    objective = loaded.objective(task.settings.batch_size)
    return simplex_boundary(objective, vertices, faces, task.settings)


def _record(
    task: OptimizeSimplex, around: SimplexBoundary, simplex: SimplexSolution, epochs: int, name: str
) -> SimplexRecord:
    """The record of a simplex. Its value is at least that of each face, so the filtration is monotone."""
    history = [asdict(measure) for measure in simplex.history]
    for measure in history:
        measure.pop("time")
    return SimplexRecord(
        key=task.key,
        vertices=task.vertices,
        faces=task.faces,
        value=simplex.value,
        value_high=max(simplex.value, simplex.profile.maximum + simplex.profile.bracket),
        own_maximum=simplex.profile.maximum,
        face_maxima=tuple(around.maxima_with(simplex.profile).values()),
        outcome=simplex.outcome.value,
        reason=simplex.reason,
        remaining_fall=simplex.remaining_fall,
        epochs=epochs,
        gradient_evaluations=simplex.gradient_evaluations,
        history=history,
        object=name,
    )
