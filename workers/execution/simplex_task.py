"""Run one `OptimizeSimplex`: from its optimised faces, or its last checkpoint, to a record and a sheet."""

import itertools
from dataclasses import asdict

import torch

from topo_core.paths.convergence import Outcome
from topo_core.random_streams import seed_of
from topo_core.simplices.faces import SimplexBoundary, simplex_boundary
from topo_core.simplices.optimize import SimplexSolution, simplex_solutions
from topo_core.simplices.solver import advance_simplices, begin_simplices, simplex_is_finished
from topo_core.simplices.state import SimplexState
from workers.execution.progress import TaskFailure, Telling
from workers.problems.loaded_problem import Loaded
from workers.storage.run_store import Store
from workers.storage.schema import SimplexRecord
from workers.tasks.results import FailureKind
from workers.tasks.tasks import OptimizeSimplex


def optimize_simplex_task(
    task: OptimizeSimplex, loaded: Loaded, store: Store, telling: Telling
) -> SimplexRecord:
    """Span a simplex by the optimised faces in the store and push its interior down.

    Checkpoints as for a path: a task that starts again gives the bits of one never interrupted.

    Raises:
        TaskFailure: the loss diverged.
        Damaged: a minimum or a face cannot be read.
        Interrupted: asked to stop.
    """
    settings = task.settings
    objective = loaded.objective(settings.batch_size)
    seed = seed_of(task.seed, "simplex", task.key)
    total = settings.total_epochs(objective.batches)
    around = _boundary(task, loaded, store)
    checkpoint = store.latest_checkpoint(task.key)
    if checkpoint:
        state = SimplexState.restore(loaded.on_device(checkpoint.tensors), checkpoint.scalars)
    else:
        floor = max(around.maxima.values())
        (state,) = begin_simplices(
            objective, [around.points], [floor], len(task.vertices) - 1, settings
        )
    while not simplex_is_finished(state, settings):
        until = (state.epoch // settings.checkpoint_every + 1) * settings.checkpoint_every
        (state,) = advance_simplices(objective, [state], settings, seed, until_epoch=until)
        if not simplex_is_finished(state, settings):
            store.publish_checkpoint(task.key, state.epoch, state.tensors(), state.scalars())
        telling.share(task.key, state.epoch / total)
    (found,) = simplex_solutions(objective, [state], settings)
    if found.outcome is Outcome.DIVERGED:
        store.drop_checkpoints(task.key)
        raise TaskFailure(FailureKind.DIVERGED, found.reason)
    name = store.publish_simplex(
        task.key, {"points": found.points}, vertices=list(task.vertices), minima=list(task.minima)
    )
    return _record(task, around, found, total, name)


def _boundary(task: OptimizeSimplex, loaded: Loaded, store: Store) -> SimplexBoundary:
    """The faces from the store, on the lattice of the simplex."""
    count = len(task.vertices)
    vertices = torch.stack([loaded.flat(store.read_minimum(key)) for key in task.minima])
    read = store.read_path if count == 3 else store.read_simplex
    faces = {
        face: read(key)["points"].to(vertices)
        for face, key in zip(
            itertools.combinations(range(count), count - 1), task.faces, strict=True
        )
    }
    objective = loaded.objective(task.settings.batch_size)
    return simplex_boundary(objective, vertices, faces, task.settings)


def _record(
    task: OptimizeSimplex, around: SimplexBoundary, found: SimplexSolution, epochs: int, name: str
) -> SimplexRecord:
    """The record of a simplex. Its value counts its faces, so the filtration is monotone."""
    history = [asdict(measure) for measure in found.history]
    for measure in history:
        measure.pop("time")
    return SimplexRecord(
        key=task.key,
        vertices=task.vertices,
        faces=task.faces,
        value=found.value,
        value_high=max(found.value, found.profile.maximum + found.profile.bracket),
        own_maximum=found.profile.maximum,
        face_maxima=tuple(around.maxima_with(found.profile).values()),
        outcome=found.outcome.value,
        reason=found.reason,
        remaining_fall=found.remaining_fall,
        epochs=epochs,
        gradient_evaluations=found.gradient_evaluations,
        history=history,
        object=name,
    )
