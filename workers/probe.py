"""Which evaluation strategy is fastest here: timed once, when a run starts for the first time.

What wins is written into the run, so that every worker and every resumed run computes the same bits. A
strategy that fails here, or does not give the literal loop's numbers, is not a candidate.
"""

import os
import platform
import time
from dataclasses import replace
from typing import Any

import torch

from topo_core.objective import Step
from topo_core.stacked import possible_strategies
from workers.evaluation import Evaluation, prepare
from workers.problem import Loaded, load_problem
from workers.tasks import PathWork, Problem

REPEATS = 3
TOLERANCE = 0.05
"""Of the length of a gradient: kinks move float32 gradients by a percent between orders of memory."""


def choose_evaluation(loaded: Loaded, settings: PathWork) -> Evaluation:
    """The device of this machine, and the strategy that takes least time for a step of a path."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    base = replace(loaded.evaluation, device=device)
    candidates = possible_strategies(loaded.module)
    if candidates[0] == "linear":  # never slower than the others on the networks that it takes
        return replace(base, strategy="linear")
    times = {}
    for name in candidates:
        try:
            times[name] = _seconds(replace(base, strategy=name), loaded, settings)
        except RuntimeError:
            # `vmap` refuses, for instance, a forward pass that looks at values.
            if name == "literal":
                raise
    return replace(base, strategy=min(times, key=lambda name: times[name]))


def choose_for(problem: Problem, settings: PathWork) -> tuple[Evaluation, dict[str, Any]]:
    """`choose_evaluation` for a machine that holds nothing of the run yet, and what machine it is.

    Raises:
        BadReference: the data or the network cannot be loaded here.
    """
    prepare(Evaluation())
    return choose_evaluation(load_problem(problem, Evaluation()), settings), hardware()


def hardware() -> dict[str, Any]:
    """What results are computed on: the processor, how many cores, and the names of the GPUs."""
    return {
        "processor": platform.processor() or platform.machine(),
        "cpus": os.cpu_count(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def _seconds(evaluation: Evaluation, loaded: Loaded, settings: PathWork) -> float:
    objective = replace(loaded, evaluation=evaluation).objective(settings.batch_size)
    points = loaded.initial_point(0).expand(settings.points - 2, -1).contiguous()
    objective.gradients(points, Step(0, 0, 0))
    times = []
    for batch in range(REPEATS):
        started = time.perf_counter()
        objective.gradients(points, Step(0, 0, batch % objective.batches))
        if points.is_cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return min(times)
