"""What a run would cost, before it starts: tasks, epochs, device-hours, bytes, requests."""

import contextlib
import gc
import math
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.planning.fingerprints import checkpoint_contents
from orchestrator.planning.plan import Identity, Plan
from orchestrator.planning.timed_sample import Sample, remember, remembered
from orchestrator.run_file.errors import BadRunFile
from orchestrator.run_file.models import RunFile
from orchestrator.telemetry.durations import human_seconds
from topo_core.paths.settings import Resolved

RECORD_BYTES = 4_000
"""A pair's record with its profile and history, measured on runs of 100 epochs."""


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
    timed_at: str | None
    """When the sample was timed, ISO 8601."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@contextlib.contextmanager
def _quick_import() -> Iterator[None]:
    """For torch, whose import takes longer than all the rest of a plan: a quarter of the whole is spared.

    What modules are made of stays to the end: the collector need not go through it again and again, nor
    when the process ends. And no backend but the processor is timed, so others are not looked for.
    """
    if "torch" in sys.modules:
        yield
        return
    gc.collect()  # what is garbage by now must not stay
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
    """The cost of a whole run, as if nothing of it were done.

    Args:
        run: the run file.
        sample: time a few steps on this machine, one worker of one thread: True, now; False, not at
            all; None, if that was not done before.

    Raises:
        BadRunFile: a name in it stands for nothing.
    """
    checkpoints = checkpoint_contents(run)
    known = None if sample else remembered(run)
    if known is None:
        with _quick_import():
            from orchestrator.planning.timing import sizes_of, timed

        if sample is not False:
            known = timed(run)
            remember(run, known)
    parameters, examples = (known.parameters, known.examples) if known else sizes_of(run)
    plan = Plan(run, Identity("", "", checkpoints))  # the keys of its tasks are not looked at
    settings = plan.path_settings
    batches = math.ceil(examples / settings.batch_size)
    resolved = settings.resolve(batches, parameters)
    path_epochs = resolved.epochs
    moving = settings.points_per_step or resolved.most_points - 2
    steps = path_epochs * batches
    simplices = sum(plan.simplex_count(d) for d in plan.simplex_dimensions)
    row = 4 * parameters
    checkpointed = max(1, path_epochs // settings.checkpoint_every)
    per_minimum = per_path = total = None
    if known and sample is not False:
        training, per_path = _training_seconds(known, run), _path_seconds(known, resolved)
        per_minimum = training / max(1, run.minima.trained)
        total = training + plan.pair_count * per_path
    return Cost(
        run=run.name,
        location=run.location,
        parameters=parameters,
        minima=len(plan.minima),
        paths=plan.pair_count,
        adaptive=plan.adaptive,
        simplices=simplices,
        simplex_sizes=tuple(d + 1 for d in plan.simplex_dimensions),
        minimum_epochs=sum(training.epochs for training in run.minima.trainings),
        path_epochs=plan.pair_count * path_epochs,
        gradient_evaluations=plan.pair_count * (steps * moving + resolved.curve_passes * batches),
        store_bytes=len(plan.minima) * row + plan.pair_count * path_bytes(plan, parameters),
        store_requests=2 * len(plan.minima) + plan.pair_count * (2 + 2 * checkpointed),
        free_bytes=free_bytes(run.store),
        seconds_per_minimum=per_minimum,
        seconds_per_path=per_path,
        device_seconds=total,
        timed_at=known.timed_at if known and total is not None else None,
    )


def path_bytes(plan: Plan, dimension: int) -> int:
    """What a finished path takes in the store."""
    points = 0 if plan.run.keep_paths == "none" else plan.path_settings.points
    return RECORD_BYTES + 4 * points * dimension


def refuse_what_cannot_fit(plan: Plan, dimension: int, done: int, location: str) -> None:
    """See that the disk under the store has room for what is left to do.

    Of a rule that looks at results, only the paths that it needs at least are counted.

    Args:
        plan: of the run.
        dimension: parameters of its network.
        done: how many paths are finished.
        location: folder or URL of the run.

    Raises:
        BadRunFile: it has not.
    """
    free = free_bytes(location)
    needed = max(0, plan.least_pair_count - done) * path_bytes(plan, dimension)
    if free is not None and needed > free:
        raise BadRunFile(
            f"store is {location}, which has {human_bytes(free)} free, and the paths need "
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


def _path_seconds(sample: Sample, resolved: Resolved) -> float:
    """Steps, the first path, and measurements of the dense maximum."""
    settings, batches = resolved.settings, resolved.batches
    measurements = resolved.epochs // settings.evaluate_every + 1
    dense = sample.path_losses * 4 * settings.points
    curve = sample.curve_step * resolved.curve_passes * batches
    return sample.path_step * resolved.epochs * batches + curve + dense * measurements


def _training_seconds(sample: Sample, run: RunFile) -> float:
    return sum(
        count
        * sample.training_steps[training.batch_size]
        * math.ceil(sample.examples / training.batch_size)
        * training.epochs
        for training, count in Counter(run.minima.trainings).items()
    )


def estimate_view(cost: Cost) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_row("minima", f"{cost.minima:,}", f"{cost.minimum_epochs:,} epochs")
    bound = "at most " if cost.adaptive else ""
    # A curve, and a path, that is as low as its higher end is done: these are the most that it can take.
    table.add_row("paths", f"{bound}{cost.paths:,}", f"at most {cost.path_epochs:,} epochs")
    if cost.simplices:
        what = " + ".join(f"C({cost.minima}, {size})" for size in cost.simplex_sizes)
        table.add_row("simplices", f"{cost.simplices:,}", what)
    table.add_row("parameters", f"{cost.parameters:,}", "of one network")
    table.add_row(
        "gradients", f"at most {cost.gradient_evaluations:.3g}", "of a point on a minibatch"
    )
    if cost.device_seconds is not None:
        each = f"{human_seconds(cost.seconds_per_path or 0)} a path on one worker here "
        each += f"({(cost.timed_at or '')[:10]})"
        table.add_row("time", f"at most {human_seconds(cost.device_seconds)}", each)
    free = f"{human_bytes(cost.free_bytes)} free" if cost.free_bytes is not None else ""
    table.add_row("store", human_bytes(cost.store_bytes), free)
    table.add_row("requests", f"{cost.store_requests:,}", "to the store")
    return Group(Text(f"{cost.run} → {cost.location}", style="bold"), table)
