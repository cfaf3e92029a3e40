"""What a run would cost, before it starts: tasks, epochs, device-hours, bytes, requests."""

import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from torch import Tensor

from orchestrator.config import RunFile
from orchestrator.errors import BadRunFile
from orchestrator.identify import identify_and_load
from orchestrator.observe import human_seconds
from orchestrator.plan import Plan
from topo_core.objective import Step
from workers.evaluation import Evaluation, prepare
from workers.problem import Loaded, load_problem
from workers.references import BadReference
from workers.tasks import PathWork

RECORD_BYTES = 4_000
"""A pair's record with its profile and history, measured on runs of 100 epochs."""

SAMPLE_STEPS = 3


@dataclass(frozen=True)
class Cost:
    """Estimates. `device_seconds` is None where no sample was timed."""

    run: str
    location: str
    parameters: int
    minima: int
    paths: int
    """At most, where the rule looks at results."""
    adaptive: bool
    simplices: int
    simplex_sizes: tuple[int, ...]
    """Vertices of the simplices that an index r needs: r + 2, and of those below."""
    minimum_epochs: int
    path_epochs: int
    gradient_evaluations: int
    store_bytes: int
    store_requests: int
    free_bytes: int | None
    seconds_per_minimum: float | None
    seconds_per_path: float | None
    device_seconds: float | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def estimate(run: RunFile, *, sample: bool = True) -> Cost:
    """The cost of a whole run, as if nothing of it were done.

    Args:
        run: the run file.
        sample: time a few steps on this machine, one worker of one thread.

    Raises:
        BadRunFile: a name in it stands for nothing.
    """
    identity, data = identify_and_load(run)
    plan = Plan(run, identity)
    try:
        loaded = load_problem(plan.problem, Evaluation(), data)
    except BadReference as error:
        raise BadRunFile(str(error)) from None
    settings = plan.path_settings
    objective = loaded.objective(settings.batch_size)
    path_epochs = settings.total_epochs(objective.batches)
    moving = settings.points_per_step or settings.points - 2
    steps = path_epochs * objective.batches
    simplices = sum(plan.simplex_count(d) for d in plan.simplex_dimensions)
    row = 4 * loaded.dimension
    checkpoints = max(1, path_epochs // settings.checkpoint_every)
    per_minimum = per_path = total = None
    if sample:
        prepare(Evaluation())
        training, per_path = _sample(plan, loaded, steps)
        per_minimum = training / max(1, run.minima.trained)
        total = training + plan.pair_count * per_path
    return Cost(
        run=run.name,
        location=run.location,
        parameters=loaded.dimension,
        minima=len(plan.minima),
        paths=plan.pair_count,
        adaptive=plan.adaptive,
        simplices=simplices,
        simplex_sizes=tuple(d + 1 for d in plan.simplex_dimensions),
        minimum_epochs=sum(training.epochs for training in run.minima.trainings),
        path_epochs=plan.pair_count * path_epochs,
        gradient_evaluations=plan.pair_count
        * (steps * moving + _start_gradients(settings, objective.batches)),
        store_bytes=len(plan.minima) * row + plan.pair_count * path_bytes(plan, loaded.dimension),
        store_requests=2 * len(plan.minima) + plan.pair_count * (2 + 2 * checkpoints),
        free_bytes=free_bytes(run.store),
        seconds_per_minimum=per_minimum,
        seconds_per_path=per_path,
        device_seconds=total,
    )


def path_bytes(plan: Plan, dimension: int) -> int:
    """What a finished path takes in the store."""
    points = 0 if plan.run.keep_paths == "none" else plan.path_settings.points
    return RECORD_BYTES + 4 * points * dimension


def refuse_what_cannot_fit(plan: Plan, loaded: Loaded, done: int) -> None:
    """See that the disk under the store has room for what is left to do.

    Of a lazy rule at least a path a minimum is known to be needed.

    Args:
        plan: of the run.
        loaded: its problem.
        done: how many paths are finished.

    Raises:
        BadRunFile: it has not.
    """
    free = free_bytes(plan.run.store)
    lazy = plan.run.pairs.rule == "lazy"
    left = (len(plan.minima) - 1 if lazy else plan.pair_count) - done
    needed = max(0, left) * path_bytes(plan, loaded.dimension)
    if free is not None and needed > free:
        raise BadRunFile(
            f"store is {plan.run.location}, which has {human_bytes(free)} free, and the paths need "
            f"about {human_bytes(needed)}: choose another disk, ask for fewer minima or points, or "
            "set keep_paths to none"
        )


def free_bytes(store: str) -> int | None:
    """Free space under a local store; None for an object store."""
    if "://" in store:
        return None
    folder = Path(store).absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def human_bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.3g} {unit}"
        count /= 1000
    raise AssertionError


def _sample(plan: Plan, loaded: Loaded, path_steps: int) -> tuple[float, float]:
    """Seconds of all minima and of one path, from a few steps at random weights."""
    settings = plan.path_settings
    point = loaded.initial_point(seed=0)
    moving = point.expand(settings.points - 2, -1).contiguous()
    on_path = loaded.objective(settings.batch_size)
    step = _median_seconds(lambda: on_path.gradients(moving, Step(0, 0, 0)))
    dense = _median_seconds(lambda: on_path.losses(moving[:1])) * 4 * settings.points
    measurements = settings.total_epochs(on_path.batches) // settings.evaluate_every + 1
    start = _start_gradients(settings, on_path.batches) / len(moving)  # as steps of a path
    per_path = step * (path_steps + start) + dense * measurements
    return _training_seconds(plan, loaded, moving[:1]), per_path


def _start_gradients(settings: PathWork, batches: int) -> int:
    """Gradients that the first path of a pair takes."""
    if settings.resolve(batches).start != "bezier":
        return 0
    return settings.bezier_epochs * batches


def _training_seconds(plan: Plan, loaded: Loaded, point: Tensor) -> float:
    total = 0.0
    for training, minima in Counter(plan.run.minima.trainings).items():
        objective = loaded.objective(training.batch_size)
        step = _median_seconds(partial(objective.gradients, point, Step(0, 0, 0)))
        total += minima * step * objective.batches * training.epochs
    return total


def _median_seconds(call: Callable[[], Any]) -> float:
    call()
    times = []
    for _ in range(SAMPLE_STEPS):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return float(torch.tensor(times).median())


def estimate_view(cost: Cost) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_row("minima", f"{cost.minima:,}", f"{cost.minimum_epochs:,} epochs")
    bound = "at most " if cost.adaptive else ""
    table.add_row("paths", f"{bound}{cost.paths:,}", f"{bound}{cost.path_epochs:,} epochs")
    if cost.simplices:
        what = " + ".join(f"C({cost.minima}, {size})" for size in cost.simplex_sizes)
        table.add_row("simplices", f"{cost.simplices:,}", what)
    table.add_row("parameters", f"{cost.parameters:,}", "of one network")
    table.add_row(
        "gradients", f"{cost.gradient_evaluations:.3g}", "point evaluations on minibatches"
    )
    if cost.device_seconds is not None:
        each = f"{human_seconds(cost.seconds_per_path or 0)} a path on one worker of this machine"
        table.add_row("time", human_seconds(cost.device_seconds), each)
    free = f"{human_bytes(cost.free_bytes)} free" if cost.free_bytes is not None else ""
    table.add_row("store", human_bytes(cost.store_bytes), free)
    table.add_row("requests", f"{cost.store_requests:,}", "to the store")
    return Group(Text(f"{cost.run} → {cost.location}", style="bold"), table)
