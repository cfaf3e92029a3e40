"""Choose the evaluation strategy of a run, once, when the run starts for the first time.

The choice is stored with the run, so that every worker and every continued run computes the same bits. Before
a strategy is used, its losses and gradients on the run's data are compared with those of plain PyTorch, in
float64 and in float32. A strategy that fails or differs is not used, and the notes of the choice say so. On a
GPU several paths are optimised together; their number depends on the memory of the device and the size of the
network, and is stored with the run as well.
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
from workers.problems.evaluation import Evaluation, device_type, prepare_process
from workers.problems.loaded_problem import LoadedProblem, load_problem
from workers.problems.user_code import BadReference, first_line
from workers.tasks.path_tasks import PathTaskSettings
from workers.tasks.problem import Problem

REPEATS = 3
"""Number of timed steps. The shortest counts, because other load on the machine only adds time."""
ABOUT_AS_LONG = 1.1
"""Ratio up to which two times count as equal: on an idle machine, times of equal work differ by a few
percent."""
TRIED_PATHS = 8
"""Largest number of paths in a timed step: enough to show which strategy is faster for many paths."""
TOLERANCE = 0.05
"""Largest relative difference between float32 gradients of two strategies. Another order of summation moves
some inputs of ReLU across 0, which changes a gradient by about a percent."""
COMPARED_POINTS = 2
"""Number of points of the comparison in float64, near initial weights: a single one may agree by chance."""
COMPARED_EXAMPLES = 64
"""Number of examples of the comparison in float64: every layer is tested, and it stays fast for large
networks."""


@dataclass(frozen=True)
class EvaluationChoice:
    """The evaluation settings of a run, and how they were chosen.

    Attributes:
        evaluation: the device, the strategy and the other settings that decide the last bits.
        hardware: description of the machine on which the strategies were compared.
        device_type: kind of the device on which they were compared; empty if unknown.
        notes: sentences on strategies that are not used because they fail or differ.
    """

    evaluation: Evaluation
    hardware: dict[str, Any]
    notes: tuple[str, ...] = ()
    device_type: str = ""


def choose_evaluation(
    loaded: LoadedProblem,
    settings: PathTaskSettings,
    precision: Precision = "float32",
    *,
    device: str | None = None,
) -> EvaluationChoice:
    """A device, and the strategy that takes least time there for a step of a path.

    Args:
        loaded: the problem, on any device.
        settings: of the paths; they decide the number of points and the size of minibatches.
        precision: of gradients.
        device: `cuda` or `cpu`; by default that of this machine.

    Raises:
        BadReference: the device does not support the precision.
    """
    device = device or device_here()
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
    if device == "cuda":  # free the memory for the workers on this device
        torch.cuda.empty_cache()
    return EvaluationChoice(chosen, hardware(), notes, device_type(device))


def fastest(
    loaded: LoadedProblem, settings: PathTaskSettings, candidates: Sequence[str]
) -> tuple[Evaluation, tuple[str, ...]]:
    """Choose the first of `candidates` that agrees with plain PyTorch and is about as fast as the fastest.

    Of several strategies with about equal times the first is taken, so that the noise of a timing does not
    decide the last bits of a run's results. If some candidates are known never to be slower than the others,
    the first of them that agrees is taken, and nothing is timed.

    Args:
        loaded: the problem, on the device of the run.
        settings: of the paths.
        candidates: names of strategies, in order of preference.

    Returns:
        The evaluation of `loaded` with the chosen strategy, and notes on strategies that are not used.
    """
    prepare_process(loaded.evaluation)  # the same threads and memory settings as in a worker
    trials, notes = [], []
    literal = StrategyTrial(loaded, settings, "literal")
    reference = literal.gradients()
    untimed = _untimed(candidates)
    for name in (*untimed, *(other for other in candidates if other not in untimed)):
        if name == "literal":
            trials.append(literal)
            continue
        try:
            trial = StrategyTrial(loaded, settings, name)
            fault = trial.disagreement() or trial.distance(reference)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # raised by the user's network inside a strategy
            # For instance, `vmap` supports neither a GRU nor a forward pass that branches on values.
            fault = f"it fails: {first_line(error)}"
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
    """The candidates that need no timing, the fastest first; empty if another candidate may be faster."""
    if not STRATEGIES[candidates[0]].needs_no_trial:
        return ()
    known = tuple(name for name in candidates if STRATEGIES[name].needs_no_trial)
    if "linear_onednn" in known and onednn_is_clearly_faster():
        return ("linear_onednn", *(name for name in known if name != "linear_onednn"))
    return tuple(name for name in known if name != "linear_onednn")


def choose_for(
    problem: Problem, settings: PathTaskSettings, precision: Precision = "float32"
) -> EvaluationChoice:
    """`choose_evaluation` on a machine that has not loaded the problem yet.

    Raises:
        BadReference: the data or the network cannot be loaded here, or the device does not support the
            precision.
    """
    prepare_process(Evaluation())
    return choose_evaluation(load_problem(problem, Evaluation()), settings, precision)


def device_here() -> str:
    """The device of this machine: `cuda` if a GPU is available, else `cpu`."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def hardware() -> dict[str, Any]:
    """The machine on which results are computed: processor, number of cores, and names of the GPUs."""
    return {
        "processor": platform.processor() or platform.machine(),
        "cpus": os.cpu_count(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


class StrategyTrial:
    """One strategy, set up once, to be compared with plain PyTorch and timed.

    A step computes the gradients at the interior points of one path, or of up to `TRIED_PATHS` paths if the
    evaluation optimises several together.

    Args:
        loaded: the problem, on the device of the run.
        settings: of the paths.
        name: of the strategy.
    """

    def __init__(self, loaded: LoadedProblem, settings: PathTaskSettings, name: str) -> None:
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
        """A clause on how its losses or gradients differ from plain PyTorch's in float64; None if they agree.

        None as well for a network that computes in float32 only: `distance` compares it.
        """
        loaded, data = self._loaded, self._loaded.data
        count = min(COMPARED_EXAMPLES, len(data.train_inputs))
        points = self._points.flatten(0, 1)[:COMPARED_POINTS]
        try:
            return disagreement(
                loaded.module,
                points,
                *loaded.examples(count),
                self.name,
                loaded.loss,
            )
        except RuntimeError as error:
            if "dtype" in str(error) or "Double" in str(error) or "double" in str(error):
                return None
            raise

    def distance(self, reference: Tensor) -> str | None:
        """A clause on how its float32 gradients differ from those of plain PyTorch; None if they agree.

        Args:
            reference: gradients of the strategy `literal`, in the shape that `gradients` returns.
        """
        apart = torch.linalg.vector_norm(self.gradients() - reference, dim=-1)
        lengths = torch.linalg.vector_norm(reference, dim=-1)
        if bool((apart <= TOLERANCE * lengths).all()):
            return None
        return (
            f"its float32 gradients differ by {float((apart / lengths).max()):.1e} of their length"
        )

    def gradients(self) -> Tensor:
        """The gradients of a step, in float32: in TF32 and bf16 the rounding could hide an error of a
        strategy.

        Returns:
            [points, d], or [paths, points, d] where several paths are optimised together.
        """
        return self._step(self._exact, 0)

    def seconds(self) -> float:
        """The time in seconds that a step takes in the precision of the run."""
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
