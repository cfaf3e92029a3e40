"""Estimates the cost of a run before it starts: tasks, epochs, seconds, bytes, and requests."""

import contextlib
import gc
import math
import os
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from orchestrator.planning.disk_space import free_bytes, path_bytes
from orchestrator.planning.fingerprints import checkpoint_contents
from orchestrator.planning.measured_costs import MeasuredCosts, measured_costs
from orchestrator.planning.plan import Identity, Plan
from orchestrator.planning.saddle_refinement import most_saddles
from orchestrator.planning.step_times import (
    ProblemSizes,
    StepTimes,
    cache_step_times,
    cached_step_times,
)
from orchestrator.run_file.models import RunFile
from topo_core.paths.settings import ResolvedSettings
from workers.problems.data_placement import Placement, placement_of

_RUN_REQUESTS, _MINIMUM_REQUESTS, _PATH_REQUESTS, _CHECKPOINT_REQUESTS = 130, 3, 7, 3
"""Numbers of requests to the store, as counted by `tests/orchestrator/runs/test_requests.py`: of the start
and end of a run; of a minimum and of a path, to look for checkpoints, read, write and clean up; of one
checkpoint."""


@dataclass(frozen=True)
class Cost:
    """The estimated cost of a run. Durations, in seconds, are None if no sample was timed."""

    run: str
    location: str
    parameters: int
    data: Placement
    """Where the data lie on a worker like this machine."""
    minima: int
    paths: int
    """Number of paths; an upper bound if the pair rule depends on results."""
    adaptive: bool
    simplices: int
    simplex_sizes: tuple[int, ...]
    """Numbers of vertices of the simplices to optimise: from 3 to r + 2 for a highest index r; empty for r =
    0."""
    minimum_epochs: int
    path_epochs: int
    gradient_evaluations: int
    store_bytes: int
    store_requests: int
    free_bytes: int | None
    seconds_per_minimum: float | None
    seconds_per_path: float | None
    device_seconds: float | None
    """Of training and paths alone."""
    not_counted: tuple[str, ...]
    """Work that ends when a point is stationary, with what one such task cost in earlier runs. The other
    figures leave it out."""
    timed_at: str | None
    """Time at which the sample was timed, ISO 8601."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@contextlib.contextmanager
def _quick_import() -> Iterator[None]:
    """Make the import of torch, which takes longer than the rest of a plan, a quarter shorter.

    Garbage collection is off meanwhile, and later collections skip the imported objects, which live to the
    end of the process. Torch does not search for device backends, because only the CPU is timed.
    """
    if "torch" in sys.modules:
        yield
        return
    gc.collect()  # gc.freeze() below would keep the present garbage forever
    collected, key = gc.isenabled(), "TORCH_DEVICE_BACKEND_AUTOLOAD"
    given = os.environ.get(key)
    gc.disable()
    os.environ[key] = "0"
    try:
        yield
    finally:
        os.environ.pop(key) if given is None else os.environ.update({key: given})
        gc.freeze()
        if collected:
            gc.enable()


def estimate(run: RunFile, *, sample: bool | None = None) -> Cost:
    """Estimate the cost of a whole run, including the parts that may be complete already.

    Args:
        run: the run file.
        sample: whether to time a few steps on this machine, on one worker with one thread. True: time them
            now. False: give no durations. None: time them unless a sample of the same problem is cached.

    Raises:
        BadRunFile: a name in the run file is unknown.
    """
    checkpoints = checkpoint_contents(run)
    step_times, sizes = _measured(run, sample)
    parameters = sizes.parameters
    plan = Plan(run, Identity("", "", checkpoints))  # the keys of its tasks are not used
    settings = plan.path_settings
    batches = math.ceil(sizes.examples / settings.batch_size)
    resolved = settings.resolve(batches, parameters)
    moving = settings.points_per_step or resolved.most_points - 2
    per_path_gradients = batches * (resolved.epochs * moving + resolved.curve_passes)
    training = per_path = None
    if step_times and sample is not False:
        training = _training_seconds(step_times, run)
        per_path = _path_seconds(step_times, resolved)
    total = None if training is None or per_path is None else training + plan.pair_count * per_path
    return Cost(
        run=run.name,
        location=run.location,
        parameters=parameters,
        data=placement_of(sizes.data_bytes, sizes.device_free_bytes, mapped=sizes.mapped),
        minima=len(plan.minima),
        paths=plan.pair_count,
        adaptive=plan.adaptive,
        simplices=sum(plan.simplex_count(d) for d in plan.simplex_dimensions),
        simplex_sizes=tuple(d + 1 for d in plan.simplex_dimensions),
        minimum_epochs=sum(training.epochs for training in run.minima.every_training),
        path_epochs=plan.pair_count * resolved.epochs,
        gradient_evaluations=plan.pair_count * per_path_gradients,
        store_bytes=(
            4 * parameters * len(plan.minima) + plan.pair_count * path_bytes(plan, parameters)
        ),
        store_requests=_requests(plan, resolved.epochs, training, per_path),
        free_bytes=free_bytes(run.store),
        seconds_per_minimum=None
        if training is None
        else training / max(1, len(run.minima.every_training)),
        seconds_per_path=per_path,
        device_seconds=total,
        not_counted=_not_counted(plan),
        timed_at=step_times.timed_at if step_times and total is not None else None,
    )


def _not_counted(plan: Plan) -> tuple[str, ...]:
    """The parts of a run that end when a point is stationary, and what one of them cost in earlier runs."""
    minima = plan.run.minima.every_training
    ridge = plan.run.loss.ridge > 0
    polished = sum(m.polish in ("on", "small") or (m.polish == "auto" and ridge) for m in minima)
    saddles = most_saddles(plan)
    known = measured_costs(plan.run) if polished or saddles else MeasuredCosts()
    parts = []
    if polished:
        many = "minimum" if polished == 1 else "minima"
        parts.append(f"polish of {polished:,} {many}: {known.of_polish()}")
    if saddles:
        many = "path" if saddles == 1 else "paths"
        parts.append(f"saddles of up to {saddles:,} {many}: {known.of_refinement()}")
    return tuple(parts)


def _measured(run: RunFile, sample: bool | None) -> tuple[StepTimes | None, ProblemSizes]:
    """The timed or cached sample, if any, and the sizes of the problem."""
    known = None if sample else cached_step_times(run)
    if known is None:
        with _quick_import():
            from orchestrator.planning.timing import sizes_of, timed

        if sample is False:
            return None, sizes_of(run)
        known = timed(run)
        cache_step_times(run, known)
    return known, known.sizes


def _path_seconds(sample: StepTimes, resolved: ResolvedSettings) -> float:
    """Seconds of a path: optimisation steps, the curve for the initial path, and measured heights."""
    settings, batches = resolved.settings, resolved.batches
    measurements = resolved.epochs // settings.evaluate_every + 1
    dense = sample.path_losses * 4 * settings.points
    curve = sample.curve_step * resolved.curve_passes * batches
    return sample.path_step * resolved.epochs * batches + curve + dense * measurements


def _requests(plan: Plan, path_epochs: int, training: float | None, per_path: float | None) -> int:
    """Number of requests to the store of a whole run, if all paths use all their epochs.

    If no sample was timed, tasks are assumed to be shorter than the time between two checkpoints.
    """
    minima, paths = len(plan.minima), plan.pair_count
    every = plan.run.resources.checkpoint_seconds
    if every:
        checkpoints = int((training or 0.0) / every) + paths * int((per_path or 0.0) / every)
    else:
        trainings = sum(training.epochs - 1 for training in plan.run.minima.trainings)
        checkpoints = trainings + paths * max(0, path_epochs - 1)
    counted = _RUN_REQUESTS + _MINIMUM_REQUESTS * minima + _PATH_REQUESTS * paths
    return counted + _CHECKPOINT_REQUESTS * checkpoints


def _training_seconds(sample: StepTimes, run: RunFile) -> float:
    """Seconds of the training of all minima."""
    return sum(
        count
        * sample.training_steps[training.batch_size]
        * math.ceil(sample.sizes.examples / training.batch_size)
        * training.epochs
        for training, count in Counter(run.minima.every_training).items()
    )
