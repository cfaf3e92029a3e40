"""The trial that chooses a run's evaluation strategy, once, when the run starts for the first time.

The choice is written into the run, so that every worker and every resumed run computes the same bits. Every
strategy is compared with plain PyTorch on the run's own data, losses and gradients, before it is used: in
float64, and, as it would run, in float32. A strategy that fails or differs is not used, and the notes of the
choice say so. On a GPU several paths are optimised together; their number follows from the device's memory
and the network, and is written into the run too.
"""

import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from topo_core.objectives.agreement import disagreement
from topo_core.objectives.batching.matrix_products import onednn_is_clearly_faster
from topo_core.objectives.batching.memory_budget import paths_that_fit
from topo_core.objectives.batching.registry import STRATEGIES
from topo_core.objectives.network_loss import ModuleObjective
from topo_core.objectives.precision import Precision, check_precision
from topo_core.objectives.protocol import Step
from topo_core.random_streams import generator
from workers.problems.evaluation import Evaluation, prepare
from workers.problems.loaded_problem import Loaded, load_problem
from workers.problems.user_code import BadReference
from workers.tasks.path_tasks import PathWork
from workers.tasks.problem import Problem

REPEATS = 3
"""Timed steps, of which the shortest counts: other load only adds time."""
ABOUT_AS_LONG = 1.1
"""Ratio of times that counts as equal: on an idle machine the times of equal work differ by a few percent."""
TRIED_PATHS = 8
"""Paths of a timed step where paths are optimised together: enough to show which strategy is faster."""
TOLERANCE = 0.05
"""Largest relative difference of float32 gradients: kinks change them by a percent between memory orders."""
COMPARED_POINTS = 2
"""Points of the comparison in float64, near initial weights: one alone may agree by chance."""
COMPARED_EXAMPLES = 64
"""Examples of the comparison in float64: enough for every layer, few enough for large networks on a CPU."""


@dataclass(frozen=True)
class Choice:
    """How a run's arithmetic is carried out, and why.

    Attributes:
        evaluation: the device, the strategy and what else decides the last bits.
        hardware: of the machine on which the trial ran.
        notes: sentences on strategies that are not used because they fail or differ.
    """

    evaluation: Evaluation
    hardware: dict[str, Any]
    notes: tuple[str, ...] = ()


def choose_evaluation(
    loaded: Loaded, settings: PathWork, precision: Precision = "float32"
) -> Choice:
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
    moved = loaded.moved(base)
    chosen, notes = fastest(moved, settings, moved.strategies())
    if device == "cuda":  # workers on this device have more use for the memory
        torch.cuda.empty_cache()
    return Choice(chosen, hardware(), notes)


def fastest(
    loaded: Loaded, settings: PathWork, candidates: Sequence[str]
) -> tuple[Evaluation, tuple[str, ...]]:
    """The evaluation of `loaded` with the first of `candidates` that is right and among the fastest.

    Among strategies with about equal times chance decides which is faster, and must not decide the last bits
    of a run's results. Among strategies that need no trial the fastest is known, and nothing is timed.
    """
    prepare(loaded.evaluation)  # threads and memory as in a worker
    trials, notes = [], []
    literal = Trial(loaded, settings, "literal")
    reference = literal.gradients()
    untimed = _untimed(candidates)
    for name in (*untimed, *(other for other in candidates if other not in untimed)):
        if name == "literal":
            trials.append(literal)
            continue
        try:
            trial = Trial(loaded, settings, name)
            fault = trial.disagreement() or trial.distance(reference)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # raised by the user's network inside a strategy
            # For instance, `vmap` refuses a GRU, and a forward pass that branches on values.
            fault = (
                f"it fails: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
            )
        if fault is not None:
            notes.append(f"The evaluation strategy {name} is not used: {fault}.")
        elif name in untimed:
            return replace(loaded.evaluation, strategy=name), tuple(notes)
        else:
            trials.append(trial)
    if len(trials) > 1:
        times = {trial.name: trial.seconds() for trial in trials}
        enough = ABOUT_AS_LONG * min(times.values())
        chosen = next(name for name, seconds in times.items() if seconds <= enough)
    else:
        chosen = "literal"
    return replace(loaded.evaluation, strategy=chosen), tuple(notes)


def _untimed(candidates: Sequence[str]) -> tuple[str, ...]:
    """Those that were never slower than others, the faster first; none where another may be faster."""
    if not STRATEGIES[candidates[0]].needs_no_trial:
        return ()
    known = tuple(name for name in candidates if STRATEGIES[name].needs_no_trial)
    if "linear_onednn" in known and onednn_is_clearly_faster():
        return ("linear_onednn", *(name for name in known if name != "linear_onednn"))
    return tuple(name for name in known if name != "linear_onednn")


def choose_for(problem: Problem, settings: PathWork, precision: Precision = "float32") -> Choice:
    """`choose_evaluation` for a machine that holds nothing of the run yet.

    Raises:
        BadReference: the data or the network cannot be loaded here, or the precision is refused.
    """
    prepare(Evaluation())
    return choose_evaluation(load_problem(problem, Evaluation()), settings, precision)


def device_here() -> str:
    """The kind of device that this machine computes on."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def hardware() -> dict[str, Any]:
    """The machine on which results are computed: processor, number of cores, and names of the GPUs."""
    return {
        "processor": platform.processor() or platform.machine(),
        "cpus": os.cpu_count(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


class Trial:
    """One strategy, set up once: compared with plain PyTorch, then timed.

    A step takes the gradients of a path's points, or of a few paths' where they are optimised together.
    """

    def __init__(self, loaded: Loaded, settings: PathWork, name: str) -> None:
        self.name, self._loaded = name, loaded
        evaluation = replace(loaded.evaluation, strategy=name)
        self._objective = replace(loaded, evaluation=evaluation).objective(settings.batch_size)
        self._exact = self._objective
        if evaluation.precision != "float32":
            full = replace(evaluation, precision="float32")
            self._exact = replace(loaded, evaluation=full).objective(settings.batch_size)
        self._paths = min(loaded.evaluation.paths_at_once, TRIED_PATHS)
        start = loaded.initial_point(0)
        noise = torch.randn(
            self._paths, settings.points - 2, len(start), generator=generator("probe")
        )
        self._points = start + 0.01 * start.std() * noise.to(start)

    def disagreement(self) -> str | None:
        """How its numbers differ from plain PyTorch's in float64; None where they agree.

        A network that computes in float32 only is compared in float32 alone, by `distance`.
        """
        loaded, data = self._loaded, self._loaded.data
        count = min(COMPARED_EXAMPLES, len(data.train_inputs))
        points = self._points.flatten(0, 1)[:COMPARED_POINTS]
        try:
            return disagreement(
                loaded.module,
                points,
                data.train_inputs[:count],
                data.train_targets[:count],
                self.name,
                loaded.loss,
            )
        except RuntimeError as error:
            if "dtype" in str(error) or "Double" in str(error) or "double" in str(error):
                return None
            raise

    def distance(self, reference: Tensor) -> str | None:
        """The difference between its float32 gradients and those of the loop, in a sentence, if too large."""
        apart = torch.linalg.vector_norm(self.gradients() - reference, dim=-1)
        lengths = torch.linalg.vector_norm(reference, dim=-1)
        if bool((apart <= TOLERANCE * lengths).all()):
            return None
        return (
            f"its float32 gradients differ by {float((apart / lengths).max()):.1e} of their length"
        )

    def gradients(self) -> Tensor:
        """The gradients of a step in float32: TF32 and bf16 move them by more than a mistake might."""
        return self._step(self._exact, 0)

    def seconds(self) -> float:
        """The time that a step takes in the precision of the run."""
        self._step(self._objective, 0)
        times = []
        for batch in range(REPEATS):
            started = time.perf_counter()
            self._step(self._objective, batch)
            times.append(time.perf_counter() - started)
        return min(times)

    def _step(self, objective: ModuleObjective, batch: int) -> Tensor:
        steps = [Step(path, 0, batch % objective.batches) for path in range(self._paths)]
        if self._paths > 1:
            gradients = objective.gradients_of_paths(self._points, steps)[1]
        else:
            gradients = objective.gradients(self._points[0], steps[0])[1]
        if self._points.is_cuda:
            torch.cuda.synchronize()
        return gradients
