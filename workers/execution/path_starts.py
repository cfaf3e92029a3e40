"""The initial path of a task.

Starts that need only the loss are in `topo_core.paths.starts`. The starts in this file also need the network
(`aligned`) or the store (`through`); those that need the store of another run (`warm`, `moved`) are in
`continued_paths`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from topo_core.objectives.protocol import Objective
from topo_core.paths.polyline import line, through
from topo_core.paths.solver import PathSolver
from topo_core.paths.starts.initial_paths import find_start
from topo_core.paths.starts.protocol import Start
from topo_core.paths.starts.trained_curves import (
    CurveState,
    TrainedCurve,
    begin_curve,
    train_curves,
)
from topo_core.paths.starts.weight_matching import weight_matching
from workers.execution.continued_paths import moved_start, warm_path
from workers.execution.interruptible_loss import InterruptibleLoss
from workers.execution.progress import Interrupted, TaskFailure
from workers.execution.task_run import TaskContext
from workers.problems.loaded_problem import LoadedProblem
from workers.storage.run_store import Store
from workers.tasks.path_tasks import OptimizePath, PathTaskSettings
from workers.tasks.results import FailureKind

Keep = Callable[[Mapping[int, CurveState]], None]
"""Called with the curves in training, by the index of their task, whenever the training can be
interrupted."""

_SAME_LOSS = 1e-4
"""Relative difference up to which two losses count as equal. Permuting hidden units changes the order of
sums, and so their rounding; in float32 this is far smaller, and a wrong permutation changes the loss by
more."""


def initial_path_of(
    task: OptimizePath,
    context: TaskContext,
    solver: PathSolver,
    seed: int,
    begun: CurveState | None,
    keep: Keep,
) -> Start:
    """The initial path of a task, as `settings.start` says.

    Args:
        task: the path to optimise.
        context: the problem, the store and the progress.
        solver: of the path.
        seed: of the random numbers.
        begun: state of a curve from a checkpoint, to be continued; None to begin a new one.
        keep: called with the state of the curve whenever its training can be interrupted.

    Raises:
        TaskFailure: the start is not possible for this network, this objective or these minima, or the path
            of the other run is damaged.
        Damaged: a minimum, or a path of `task.via`, cannot be read.
        Interrupted: the worker was asked to stop.
    """
    settings = task.settings
    start, end = _ends(task, context)
    if solver.resolved.trains_a_curve:
        states = {0: begun or begin_curve(solver.objective, start, end, seed)}
        return _trained(solver, states, settings, [seed], keep)[0]
    name = solver.resolved.start
    try:
        if name == "aligned":
            matched = _aligned(context.loaded, solver.objective, start, end, seed)
            points = line(start, matched, settings.points)
            return Start(points)
        if name == "warm":
            return Start(warm_path(task, start, end))
        if name == "moved":
            return moved_start(task, context, start, end, seed)
        if name == "through":
            return Start(_through(task, context.store, start))
        # A search may take a minute; it begins again after an interruption.
        objective = context.loaded.objective(settings.batch_size)
        searched = InterruptibleLoss(objective, context.progress)
        return find_start(searched, start, end, solver.resolved, seed)
    except ValueError as error:
        raise TaskFailure(FailureKind.BAD_INPUT, f"paths.start: {error}") from None


def initial_paths_of(
    tasks: Sequence[OptimizePath],
    context: TaskContext,
    solvers: Sequence[PathSolver],
    seeds: Sequence[int],
    begun: Sequence[CurveState | None],
    keep: Keep,
) -> list[Start | Exception]:
    """The initial paths of several tasks with equal settings; curves are trained together.

    Args:
        tasks: paths of one problem.
        context: the problem, the store and the progress.
        solvers, seeds, begun: as for `initial_path_of`, one for each task.
        keep: as for `initial_path_of`, with the curves by the index of their task.

    Returns:
        For each task its initial path, or the exception that `initial_path_of` would have raised.

    Raises:
        Interrupted: the worker was asked to stop.
    """

    def alone(at: int) -> Start | Exception:
        def keep_this(stop: Mapping[int, CurveState]) -> None:
            keep({at: stop[0]} if stop else {})

        try:
            return initial_path_of(tasks[at], context, solvers[at], seeds[at], begun[at], keep_this)
        except Interrupted:
            raise
        except Exception as error:
            return error

    results: dict[int, Start | Exception] = {}
    if all(solver.resolved.trains_a_curve for solver in solvers):
        states: dict[int, CurveState] = {}
        for at, task in enumerate(tasks):
            try:
                states[at] = begun[at] or begin_curve(
                    solvers[at].objective, *_ends(task, context), seeds[at]
                )
            except Exception as error:
                results[at] = error
        try:
            results |= _trained(
                solvers[0], states, tasks[0].settings, [seeds[at] for at in states], keep
            )
        except Interrupted:
            raise
        except Exception:
            # An error in a shared step cannot be attributed to one curve: each is trained alone below, and
            # the error is reported for the curves that still raise it.
            pass
    return [results[at] if at in results else alone(at) for at in range(len(tasks))]


def settings_of(task: OptimizePath) -> PathTaskSettings:
    """The settings of a task; `start: through` is replaced by `auto` if the task names no paths in `via`."""
    if task.settings.start == "through" and not task.via:
        return replace(task.settings, start="auto")
    return task.settings


def _ends(task: OptimizePath, context: TaskContext) -> tuple[Tensor, Tensor]:
    a, b = (context.store.read_minimum(task.object_of(key)) for key in (task.a, task.b))
    return context.loaded.flat(a), context.loaded.flat(b)


def _trained(
    solver: PathSolver,
    states: Mapping[int, CurveState],
    settings: PathTaskSettings,
    seeds: Sequence[int],
    keep: Keep,
) -> dict[int, Start]:
    """Train curves to the end.

    `keep` is called each time that every curve has taken as many gradients as one epoch of a path has.
    """
    numbers, trained = list(states), {}
    # An epoch of a path takes one gradient at each point that moves, in units of passes over the data.
    every = settings.points - 2
    curves = train_curves(
        solver.objective, list(states.values()), solver.resolved, seeds, every=every
    )
    for stop in curves:
        keep({numbers[at]: curve for at, curve in stop.items() if isinstance(curve, CurveState)})
        for at, curve in stop.items():
            if isinstance(curve, TrainedCurve):
                trained[numbers[at]] = curve.start()
    return trained


def _aligned(
    loaded: LoadedProblem, objective: Objective, start: Tensor, end: Tensor, seed: int
) -> Tensor:
    """`end` [d] with its hidden units permuted so that it is close to `start` [d].

    Raises:
        ValueError: the permutation changes the loss.
    """
    matched = weight_matching(loaded.module, start, end, seed=seed)
    before, after = objective.losses(torch.stack([end, matched])).tolist()
    if abs(after - before) > _SAME_LOSS * abs(before):
        raise ValueError(
            f"renumbering the hidden units changed the loss from {before:.6g} to {after:.6g}, so they "
            "are not exchangeable in this network; choose another start than aligned."
        )
    return matched


def _through(task: OptimizePath, store: Store, start: Tensor) -> Tensor:
    """The concatenation [k, d] of the optimised paths `task.via`, which begins at `start` [d]."""
    here, parts = start, []
    for key in task.via:
        points = store.read_path(task.object_of(key))["points"].to(start)
        if (points[0] - here).norm() > (points[-1] - here).norm():
            points = points.flip(0)
        parts.append(points)
        here = points[-1]
    return through(parts, task.settings.points)
