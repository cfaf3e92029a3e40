"""Which evaluation strategy is fastest here: timed once, when a run starts for the first time.

What wins is written into the run, so that every worker and every resumed run computes the same bits. A
strategy that fails here, or does not give the literal loop's numbers, is not a candidate. Numbers are
compared in float32, whatever the precision of the run: TF32 moves a gradient of a residual network by 6 % of
its length and bf16 by a quarter, which would hide what is wrong. On a GPU several paths are walked together;
how many is a matter of the device's memory and the network, and is written down too.
"""

import math
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from topo_core.objectives.batching.matrix_products import onednn_is_clearly_faster
from topo_core.objectives.batching.memory_budget import paths_that_fit
from topo_core.objectives.batching.precision import check_precision
from topo_core.objectives.network_loss import possible_strategies
from topo_core.objectives.precision_names import Precision
from topo_core.objectives.protocol import Step
from topo_core.random_streams import generator
from workers.problems.evaluation import Evaluation, prepare
from workers.problems.loaded_problem import Loaded, load_problem
from workers.problems.user_code import BadReference
from workers.tasks.tasks import PathWork, Problem

REPEATS = 3
ABOUT_AS_LONG = 1.1
"""Of times of the same work on a machine that does nothing else, which differ by a few percent."""
TRIED_PATHS = 8
"""Paths of a step that is timed where they are walked together: enough to tell strategies apart."""
TOLERANCE = 0.05
"""Of the length of a gradient: kinks move float32 gradients by a percent between orders of memory."""


def choose_evaluation(
    loaded: Loaded, settings: PathWork, precision: Precision = "float32"
) -> Evaluation:
    """The device of this machine, and the strategy that takes least time for a step of a path.

    Raises:
        BadReference: the device has no units for the precision.
    """
    device = device_here()
    try:
        check_precision(precision, torch.device(device))
    except ValueError as error:
        raise BadReference(f"resources.{error}") from None
    base = replace(loaded.evaluation, device=device, precision=precision)
    if device == "cuda":
        fit = paths_that_fit(torch.device(device), settings.points, loaded.dimension)
        base = replace(base, paths_at_once=fit)
    candidates = possible_strategies(loaded.module, device, precision)
    if (known := best_untimed(candidates)) is not None:
        return replace(base, strategy=known)
    found = fastest(loaded.moved(base), settings, candidates)
    if device == "cuda":  # workers on this device have more use for the memory
        torch.cuda.empty_cache()
    return found


def best_untimed(candidates: Sequence[str]) -> str | None:
    """What was never slower than the others on networks that it takes, and needs no trial; if any."""
    if candidates[0] != "linear":
        return None
    faster = "linear_onednn" in candidates and onednn_is_clearly_faster()
    return "linear_onednn" if faster else "linear"


def fastest(loaded: Loaded, settings: PathWork, candidates: Sequence[str]) -> Evaluation:
    """The evaluation of `loaded` with the first of `candidates` that is right and among the fastest.

    Which of two that take about as long is a moment faster, is chance; it must not decide the last bits of a
    run's results.
    """
    prepare(loaded.evaluation)  # threads and memory as in a worker
    literal = _gradients(loaded, settings, "literal")
    times = {"literal": _seconds(loaded, settings, "literal")}
    allowed = TOLERANCE * torch.linalg.vector_norm(literal, dim=-1)
    for name in candidates:
        if name == "literal":
            continue
        try:
            apart = _gradients(loaded, settings, name).sub_(literal)
            if bool((torch.linalg.vector_norm(apart, dim=-1) <= allowed).all()):
                times[name] = _seconds(loaded, settings, name)
        except RuntimeError:
            continue  # `vmap` refuses, for instance, a forward pass that looks at values
    enough = ABOUT_AS_LONG * min(times.values())
    chosen = next(name for name in (*candidates, "literal") if times.get(name, math.inf) <= enough)
    return replace(loaded.evaluation, strategy=chosen)


def choose_for(
    problem: Problem, settings: PathWork, precision: Precision = "float32"
) -> tuple[Evaluation, dict[str, Any]]:
    """`choose_evaluation` for a machine that holds nothing of the run yet, and what machine it is.

    Raises:
        BadReference: the data or the network cannot be loaded here, or the precision is refused.
    """
    prepare(Evaluation())
    loaded = load_problem(problem, Evaluation())
    return choose_evaluation(loaded, settings, precision), hardware()


def device_here() -> str:
    """The kind of device that this machine computes on."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def hardware() -> dict[str, Any]:
    """What results are computed on: the processor, how many cores, and the names of the GPUs."""
    return {
        "processor": platform.processor() or platform.machine(),
        "cpus": os.cpu_count(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def _gradients(loaded: Loaded, settings: PathWork, strategy: str) -> Tensor:
    """The gradients of one step of a path, or of a few where paths are walked together, in float32."""
    exact = replace(loaded, evaluation=replace(loaded.evaluation, precision="float32"))
    return _stepper(exact, settings, strategy)(0)


def _seconds(loaded: Loaded, settings: PathWork, strategy: str) -> float:
    """The time that such a step takes in the precision of the run."""
    step = _stepper(loaded, settings, strategy)
    step(0)
    times = []
    for batch in range(REPEATS):
        started = time.perf_counter()
        step(batch)
        times.append(time.perf_counter() - started)
    return min(times)


def _stepper(loaded: Loaded, settings: PathWork, strategy: str) -> Callable[[int], Tensor]:
    """Evaluates the gradients of a path's points, or of a few paths', on the minibatch of a number."""
    evaluation = replace(loaded.evaluation, strategy=strategy)
    objective = replace(loaded, evaluation=evaluation).objective(settings.batch_size)
    paths = min(loaded.evaluation.paths_at_once, TRIED_PATHS)
    start = loaded.initial_point(0)
    noise = torch.randn(paths, settings.points - 2, len(start), generator=generator("probe"))
    points = start + 0.01 * start.std() * noise.to(start)

    def step(batch: int) -> Tensor:
        steps = [Step(path, 0, batch % objective.batches) for path in range(paths)]
        if paths > 1:
            gradients = objective.gradients_of_paths(points, steps)[1]
        else:
            gradients = objective.gradients(points[0], steps[0])[1]
        if points.is_cuda:
            torch.cuda.synchronize()
        return gradients

    return step
