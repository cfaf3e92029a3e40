"""Run a study: one run after another. A run that was interrupted continues from its store."""

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.analysis.reduction import reduce_run
from orchestrator.launch import LaunchOptions, execute
from orchestrator.planning.cost import Cost, estimate
from orchestrator.planning.disk_space import human_bytes
from orchestrator.planning.fingerprints import identify
from orchestrator.planning.plan import Identity, Plan
from orchestrator.run_file.errors import UserError
from orchestrator.run_file.models import RunFile
from orchestrator.runs.stored_run import open_run
from orchestrator.scheduling.exit_codes import ExitCode
from orchestrator.studies.compare import compare, view
from orchestrator.studies.study import Study
from orchestrator.telemetry.durations import human_seconds

_LEAVING = (ExitCode.INTERRUPTED, ExitCode.STOPPED)


def run_study(
    study: Study,
    *,
    go_on: str,
    address: str | None = None,
    in_process: bool = False,
    quiet: bool = False,
) -> int:
    """Run the incomplete runs of a study one after another, and print the comparison.

    Minima that an earlier run of the study has trained are not trained again. A failed run does not stop the
    study; an interrupted or stopped run does.

    Args:
        study: the study to run.
        go_on: the command that continues the study, printed if it is interrupted.
        address: address of a running Ray cluster; None starts a local one.
        in_process: run all tasks in this process, without Ray.
        quiet: print only the comparison.

    Returns:
        0 if all runs are complete; the code of an interrupted or stopped run; otherwise
        `ExitCode.FAILED_TASKS`.

    Raises:
        BadRunFile, UserError: a run cannot start.
    """
    codes = set()
    identities = _Identities()
    for number, cell in enumerate(study.cells):
        began = time.monotonic()
        if identities.is_complete(cell.run):
            continue
        if not quiet:
            position = f"{study.name} {number + 1} of {len(study.cells)}"
            print(f"{position}: {cell.run.name}", file=sys.stderr)
        earlier = [other.run for other in study.cells[:number]]
        ended = execute(
            cell.run.model_copy(update={"reuse": (*cell.run.reuse, *shared(cell.run, earlier))}),
            LaunchOptions(address, in_process, quiet=quiet or not sys.stderr.isatty()),
        )
        codes.add(ended.code)
        if ended.code in _LEAVING:
            print(f"Interrupted. To continue: {go_on}", file=sys.stderr)
            return ended.code
        if not quiet:
            spent = human_seconds(time.monotonic() - began)
            print(f"  {ended.outcome.ending.value} after {spent}", file=sys.stderr)
    Console().print(view(compare(study)))
    return ExitCode.FAILED_TASKS if codes - {0} else 0


def shared(run: RunFile, earlier: Iterable[RunFile]) -> Iterator[str]:
    """Locations of the earlier runs with the same data, network, minima and seed, so with the same minima."""

    def minima(of: RunFile) -> tuple[object, ...]:
        return (of.data, of.network, of.minima, of.seed)

    return (other.location for other in earlier if minima(other) == minima(run))


class _Identities:
    """Fingerprints of data, code and checkpoints, computed once for all runs that share them."""

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], Identity] = {}

    def is_complete(self, run: RunFile) -> bool:
        """Whether the store of a run has all its results, for the data and code of today."""
        try:
            stored = open_run(run.location)
        except UserError:
            return False
        named = (run.data, run.network, run.minima.checkpoints)
        if named not in self._known:
            self._known[named] = identify(run)
        plan = Plan(run, self._known[named])
        return reduce_run(plan, stored.store).complete


@dataclass(frozen=True)
class PlannedRuns:
    """Runs of a study that differ only in their seed, and the cost of one of them."""

    runs: int
    each: Cost

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def plan_study(study: Study, *, sample: bool | None = None) -> tuple[PlannedRuns, ...]:
    """The cost of a study; of runs that differ only in their seed, one is estimated.

    Args:
        study: the study.
        sample: whether to time a sample of the work on this machine; see `estimate`.

    Raises:
        BadRunFile: a name in one of its runs is unknown.
    """
    kinds: dict[RunFile, list[RunFile]] = {}
    for cell in study.cells:
        kinds.setdefault(cell.run.model_copy(update={"seed": 0, "name": "any"}), []).append(
            cell.run
        )
    return tuple(
        PlannedRuns(len(runs), estimate(runs[0], sample=sample)) for runs in kinds.values()
    )


def plan_view(plans: Sequence[PlannedRuns]) -> RenderableType:
    table = Table(box=None, pad_edge=False, padding=(0, 1))
    table.add_column("runs", justify="right")
    table.add_column("like", no_wrap=True)
    for heading in ("minima", "paths", "gradients", "time", "store"):
        table.add_column(heading, justify="right", no_wrap=True)
    for plan in plans:
        cost = plan.each
        seconds = cost.device_seconds
        table.add_row(
            str(plan.runs),
            cost.run,
            f"{plan.runs * cost.minima:,}",
            f"{plan.runs * cost.paths:,}",
            f"{plan.runs * cost.gradient_evaluations:.2g}",
            human_seconds(plan.runs * seconds) if seconds is not None else "",
            human_bytes(plan.runs * cost.store_bytes),
        )
    total = sum(plan.runs * (plan.each.device_seconds or 0) for plan in plans)
    last = f"{human_seconds(total)} on one worker of this machine" if total else "not timed"
    besides = dict.fromkeys(part for plan in plans for part in plan.each.not_counted)
    if besides:
        last += f"; not counted, in each run: {' and '.join(besides)}"
    return Group(table, Text(last, style="bold"))
