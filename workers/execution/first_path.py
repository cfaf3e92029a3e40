"""The first path of a task. Starts that need only the loss are in `topo_core.paths.starts`; the others need
what a worker has: the network (`aligned`), the store (`through`), or the store of another run (`warm`)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from topo_core.objectives.protocol import Objective
from topo_core.paths.polyline import line, resample, through
from topo_core.paths.profiles import Profile
from topo_core.paths.solver import PathSolver
from topo_core.paths.starts.initial_paths import find_start
from topo_core.paths.starts.trained_curves import (
    CurveState,
    TrainedCurve,
    begin_curve,
    train_curves,
)
from topo_core.paths.starts.weight_matching import weight_matching
from workers.execution.progress import Interrupted, TaskFailure
from workers.problems.loaded_problem import Loaded
from workers.storage.immutable_objects import Damaged
from workers.storage.objects import NotWritable, StoreUnreachable
from workers.storage.open_objects import open_objects
from workers.storage.run_store import Store
from workers.tasks.results import FailureKind
from workers.tasks.tasks import OptimizePath, PathWork

Keep = Callable[[Mapping[int, CurveState]], None]
"""Is given the curves in training that have come to a stop, by the number of their task."""

_SAME_LOSS = 1e-4
"""Relative; sums over renumbered units are rounded differently."""


@dataclass(frozen=True)
class FirstPath:
    """Where the optimisation starts.

    Attributes:
        points: [n, d].
        gradient_evaluations: rows whose gradient it took to find it.
        profile: the losses along it, if they were measured.
        quotient: whether it ends at a renumbered copy of the second minimum, so that its height is
            one on the quotient by the symmetries of the network.
    """

    points: Tensor
    gradient_evaluations: int = 0
    profile: Profile | None = None
    quotient: bool = False


def first_path(
    task: OptimizePath,
    loaded: Loaded,
    solver: PathSolver,
    store: Store,
    seed: int,
    begun: CurveState | None,
    keep: Keep,
) -> FirstPath:
    """The first path of a task, as `settings.start` says.

    Args:
        task, loaded, store: what is asked for, and of what.
        solver: of the path.
        seed: of the draws.
        begun: a curve in training that it goes on from.
        keep: is given such curves from time to time.

    Raises:
        TaskFailure: the start is not possible for this network, this objective or these minima.
        Damaged: a minimum, or the path of the other run, cannot be read.
    """
    settings = task.settings
    start, end = _ends(task, loaded, store)
    if solver.resolved.trains_a_curve:
        states = {0: begun or begin_curve(start, end)}
        return _trained(solver, states, settings, [seed], keep)[0]
    name = solver.resolved.start
    try:
        if name == "aligned":
            points = line(
                start, _aligned(loaded, solver.objective, start, end, seed), settings.points
            )
            return FirstPath(points, quotient=True)
        if name == "warm":
            return FirstPath(_warm(task, start, end))
        if name == "through":
            return FirstPath(_through(task, store, start))
        plain = find_start(solver.objective, start, end, solver.resolved, seed)
    except ValueError as error:
        raise TaskFailure(FailureKind.BAD_INPUT, f"paths.start: {error}") from None
    return FirstPath(plain.points, plain.gradient_evaluations, plain.profile)


def first_paths(
    tasks: Sequence[OptimizePath],
    loaded: Loaded,
    solvers: Sequence[PathSolver],
    store: Store,
    seeds: Sequence[int],
    begun: Sequence[CurveState | None],
    keep: Keep,
) -> list[FirstPath | Exception]:
    """The first paths of several tasks with equal settings; curves are trained together.

    Returns:
        In place of a path, the exception with which `first_path` would have ended.
    """

    def alone(at: int) -> FirstPath | Exception:
        def keep_this(stop: Mapping[int, CurveState]) -> None:
            keep({at: stop[0]} if stop else {})

        try:
            return first_path(
                tasks[at], loaded, solvers[at], store, seeds[at], begun[at], keep_this
            )
        except Interrupted:
            raise
        except Exception as error:
            return error

    found: dict[int, FirstPath | Exception] = {}
    if all(solver.resolved.trains_a_curve for solver in solvers):
        states: dict[int, CurveState] = {}
        for at, task in enumerate(tasks):
            try:
                states[at] = begun[at] or begin_curve(*_ends(task, loaded, store))
            except Exception as error:
                found[at] = error
        found |= _trained(solvers[0], states, tasks[0].settings, [seeds[at] for at in states], keep)
    return [found[at] if at in found else alone(at) for at in range(len(tasks))]


def settings_of(task: OptimizePath) -> PathWork:
    """The settings, with a start that does not wait for paths of which there are none yet."""
    if task.settings.start == "through" and not task.via:
        return replace(task.settings, start="auto")
    return task.settings


def _ends(task: OptimizePath, loaded: Loaded, store: Store) -> tuple[Tensor, Tensor]:
    return loaded.flat(store.read_minimum(task.a)), loaded.flat(store.read_minimum(task.b))


def _trained(
    solver: PathSolver,
    states: Mapping[int, CurveState],
    settings: PathWork,
    seeds: Sequence[int],
    keep: Keep,
) -> dict[int, FirstPath]:
    """Curves trained to their ends, each offered to be kept about as often as a path is."""
    numbers, found = list(states), {}
    # Counted in gradients of a point.
    every = settings.checkpoint_every * (settings.points - 2)
    curves = train_curves(
        solver.objective, list(states.values()), solver.resolved, seeds, every=every
    )
    for stop in curves:
        keep({numbers[at]: curve for at, curve in stop.items() if isinstance(curve, CurveState)})
        for at, curve in stop.items():
            if isinstance(curve, TrainedCurve):
                found[numbers[at]] = FirstPath(
                    curve.points, curve.gradient_evaluations, curve.profile
                )
    return found


def _aligned(loaded: Loaded, objective: Objective, start: Tensor, end: Tensor, seed: int) -> Tensor:
    """`end` [d], its hidden units renumbered to lie near `start`; its loss is seen to be the same."""
    found = weight_matching(loaded.module, start, end, seed=seed)
    before, after = objective.losses(torch.stack([end, found])).tolist()
    if abs(after - before) > _SAME_LOSS * abs(before):
        raise ValueError(
            f"renumbering the hidden units changed the loss from {before:.6g} to {after:.6g}, so they "
            "are not exchangeable in this network; choose another start than aligned."
        )
    return found


def _through(task: OptimizePath, store: Store, start: Tensor) -> Tensor:
    """The optimised paths `task.via` one after the other, from `start` [d]."""
    here, parts = start, []
    for key in task.via:
        points = store.read_path(key)["points"].to(start)
        if (points[0] - here).norm() > (points[-1] - here).norm():
            points = points.flip(0)
        parts.append(points)
        here = points[-1]
    return through(parts, task.settings.points)


def _warm(task: OptimizePath, start: Tensor, end: Tensor) -> Tensor:
    """The path between these minima in the store of another run, with as many points as asked for."""
    location = task.settings.warm_from
    assert location is not None  # seen to by PathWork
    try:
        other = Store(open_objects(location))
        rows = other.table("pairs", ("key", "a", "b", "object")).to_pylist()
    except (NotWritable, StoreUnreachable) as error:
        raise ValueError(f"warm_from: {error}") from None
    for row in rows:
        if {row["a"], row["b"]} == {task.a, task.b} and row["object"] is not None:
            break
    else:
        raise ValueError(
            f"warm_from names {location}, which has no path between the minima {task.i} and "
            f"{task.j} of this run; choose another start, or a run with the same minima."
        )
    try:
        points = other.read_path(row["key"])["points"].to(start)
    except Damaged as error:
        raise TaskFailure(FailureKind.DAMAGED, f"warm_from names {location}: {error}") from None
    if row["a"] != task.a:
        points = points.flip(0)
    points = resample(points, task.settings.points)
    if not (torch.equal(points[0], start) and torch.equal(points[-1], end)):
        raise ValueError(
            f"the path between the minima {task.i} and {task.j} in {location} ends at a renumbered "
            "copy of one of them; choose a run whose start was not aligned."
        )
    return points
