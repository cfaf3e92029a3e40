"""How the execution of a run ended: the exit code, and the printed result or reason."""

import shlex
import sys
from dataclasses import dataclass

from rich.console import Console

from orchestrator.analysis.landscape import Landscape
from orchestrator.analysis.reduction import reduce_run
from orchestrator.planning.plan import Plan
from orchestrator.report.terminal import barcode_view
from orchestrator.scheduling.exit_codes import ExitCode
from orchestrator.scheduling.outcome import Ending, Outcome
from workers.storage.run_store import Store
from workers.storage.schema import ResultRecord

EXIT = {
    Ending.COMPLETE: ExitCode.COMPLETE,
    Ending.FAILED: ExitCode.FAILED_TASKS,
    Ending.SAME_FAILURE: ExitCode.FAILED_TASKS,
    Ending.STOPPED: ExitCode.STOPPED,
    Ending.GAVE_UP: ExitCode.UNREACHABLE,
    Ending.INTERRUPTED: ExitCode.INTERRUPTED,
}

_SHOWN_FAILURES = 10
"""Largest number of failures that are printed at the end; `toscore status` lists all."""


@dataclass(frozen=True)
class ExecutedRun:
    """How the execution of a run ended, and the store with its results."""

    outcome: Outcome
    plan: Plan
    store: Store
    location: str
    """Folder or URL of the run."""

    @property
    def code(self) -> int:
        """The exit code of the command; see `scheduling.exit_codes`."""
        return EXIT[self.outcome.ending]


def print_end(ended: ExecutedRun, command: str, quiet: bool) -> None:
    """Print the barcode of a run, or the reason why its execution stopped early and the command to continue
    it.

    Args:
        ended: the executed run.
        command: that continues the run.
        quiet: do not print the tasks that failed.
    """
    outcome, plan = ended.outcome, ended.plan
    onward = f"To continue: {command}"
    trusted = " --trust-code" if plan.run.code_references else ""
    again = f"toscore retry {shlex.quote(ended.location)}{trusted}"
    match outcome.ending:
        case Ending.INTERRUPTED:
            by = f" by {outcome.reason}" if outcome.reason else ""
            print(f"Interrupted{by}. {onward}", file=sys.stderr)
            return
        case Ending.STOPPED:
            print(f"Stopped on request. {onward}", file=sys.stderr)
            return
        case Ending.GAVE_UP:
            print(f"Gave up: {outcome.reason} {onward}", file=sys.stderr)
            return
        case Ending.SAME_FAILURE:
            then = again if outcome.failed else command
            print(f"Gave up: {outcome.reason} Then: {then}", file=sys.stderr)
            return
        case Ending.COMPLETE | Ending.FAILED:
            landscape = reduce_run(plan, ended.store)
    warn_of_devices(landscape)
    console = Console()
    console.print(barcode_view(landscape, console.width))
    if landscape.failures and not quiet:
        for failure in landscape.failures[:_SHOWN_FAILURES]:
            print(f"{failure.what} failed: {failure.kind}: {failure.reason}", file=sys.stderr)
        print(f"To run the failed tasks again: {again}", file=sys.stderr)


def warn_of_devices(landscape: Landscape) -> None:
    """Print a warning if the results of a run were computed on several kinds of devices."""
    records: list[ResultRecord] = [
        *landscape.minima.values(),
        *landscape.passes.values(),
        *landscape.simplices.values(),
    ]
    devices = sorted({record.device for record in records if record.device})
    if len(devices) > 1:
        print(
            f"Results come from {len(devices)} kinds of devices ({', '.join(devices)}): equal tasks may "
            "differ in their last bits there.",
            file=sys.stderr,
        )
