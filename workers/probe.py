"""Which evaluation strategy is fastest here: timed once, when a run starts for the first time.

What wins is written into the run, so that every worker and every resumed run computes the same bits.
"""

import time
from dataclasses import replace

import torch

from topo_core.objective import Step
from topo_core.stacked import possible_strategies
from workers.evaluation import Evaluation
from workers.problem import Loaded
from workers.tasks import PathWork

REPEATS = 3


def choose_evaluation(loaded: Loaded, settings: PathWork) -> Evaluation:
    """The device of this machine, and the strategy that takes least time for a step of a path."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    base = replace(loaded.evaluation, device=device)
    candidates = possible_strategies(loaded.module)
    if candidates[0] == "linear":  # never slower than the others on the networks that it takes
        return replace(base, strategy="linear")
    times = {name: _seconds(replace(base, strategy=name), loaded, settings) for name in candidates}
    return replace(base, strategy=min(times, key=lambda name: times[name]))


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
