"""Times a few steps of a problem at random weights."""

import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import torch

from orchestrator.planning.fingerprints import identify_and_load
from orchestrator.planning.loading import load_problem_of
from orchestrator.planning.plan import Plan
from orchestrator.planning.step_times import ProblemSizes, StepTimes
from orchestrator.run_file.models import RunFile
from topo_core.objectives.protocol import Step
from workers.execution.strategy_probe import device_here
from workers.problems.evaluation import Evaluation, free_memory, prepare_process
from workers.problems.loaded_problem import LoadedProblem

SAMPLE_STEPS = 3
"""Number of timed calls. Their median is used, and three are enough to ignore one outlier."""


def sizes_of(run: RunFile) -> ProblemSizes:
    """The sizes of the network and the data.

    Raises:
        BadRunFile: a name is unknown, or data, network and loss do not fit together.
    """
    return _sizes(_load(run))


def timed(run: RunFile) -> StepTimes:
    """Time the steps of a run in this process, on one CPU thread.

    Raises:
        BadRunFile: as for `sizes_of`.
    """
    loaded, paths = _load(run), run.paths
    prepare_process(Evaluation())
    moving = loaded.initial_point(seed=0).expand(paths.points - 2, -1).contiguous()

    def step(batch_size: int, points: int) -> float:
        objective = loaded.objective(batch_size)
        return _median_seconds(lambda: objective.gradients(moving[:points], Step(0, 0, 0)))

    on_path = loaded.objective(paths.batch_size)
    return StepTimes(
        sizes=_sizes(loaded),
        path_step=step(paths.batch_size, len(moving)),
        curve_step=step(paths.batch_size, 1),
        path_losses=_median_seconds(lambda: on_path.losses(moving[:1])),
        training_steps={
            t.batch_size: step(t.batch_size, 1) for t in set(run.minima.every_training)
        },
        timed_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _sizes(loaded: LoadedProblem) -> ProblemSizes:
    data = loaded.data
    return ProblemSizes(
        parameters=loaded.dimension,
        examples=len(data.train_inputs),
        data_bytes=data.bytes,
        mapped=data.mapped,
        device_free_bytes=free_memory(torch.device(device_here())),
    )


def _load(run: RunFile) -> LoadedProblem:
    identity, data = identify_and_load(run)
    return load_problem_of(Plan(run, identity), data)


def _median_seconds(call: Callable[[], Any]) -> float:
    """Median CPU seconds of a call, after one untimed call; other load hardly changes CPU time."""
    call()
    times = []
    for _ in range(SAMPLE_STEPS):
        started = time.process_time()
        call()
        times.append(time.process_time() - started)
    return statistics.median(times)
