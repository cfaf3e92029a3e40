"""Start or continue a run: acquire the lease, start workers, run the driver's loop, and print the result."""

import contextlib
import functools
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from rich.console import Console

from orchestrator.analysis.reduction import reduce_run
from orchestrator.cluster.token import present_own_token, protect_own_cluster
from orchestrator.endings import ExecutedRun, print_end
from orchestrator.planning.disk_space import refuse_what_cannot_fit
from orchestrator.planning.fingerprints import identify_and_load
from orchestrator.planning.loading import load_problem_of
from orchestrator.planning.plan import Plan
from orchestrator.preparation import (
    check_checkpoints,
    check_device,
    open_store,
    prepare_store,
)
from orchestrator.run_file.errors import UserError
from orchestrator.run_file.models import RunFile
from orchestrator.runs.maintenance import compact, drop_idle_checkpoints, prune
from orchestrator.runs.reuse import reuse, sources
from orchestrator.scheduling.driver import drive
from orchestrator.scheduling.executor import ClusterGone, Executor, InProcess, WorkersUnavailable
from orchestrator.scheduling.lease import Lease, LeaseHeld
from orchestrator.scheduling.outcome import Ending, Outcome
from orchestrator.scheduling.policy import Policy
from orchestrator.scheduling.stop_request import StopWatch
from orchestrator.scheduling.stop_switch import StopSwitch, stopping_on_signals
from orchestrator.telemetry.display import LiveDisplay, PlainLines
from orchestrator.telemetry.json_log import JsonLines
from orchestrator.telemetry.observers import Observers
from workers.execution.device_strategies import ChosenFor
from workers.execution.worker import WorkerContext
from workers.problems.dataset import Dataset
from workers.problems.user_code import code_folders
from workers.storage.objects import Fenced, NotWritable, StoreFull, StoreUnreachable
from workers.storage.run_store import Store

IDLE_SECONDS = 60.0
"""Time in seconds after which an idle worker on a shared cluster is stopped. It is longer than a lazy pair
rule takes between two rounds, and shorter than the two minutes after which autoscalers release a node."""


@dataclass(frozen=True)
class LaunchOptions:
    """Where a run is executed, and what is printed.

    Attributes:
        address: of a running Ray cluster; None to start one on this machine.
        in_process: do not use Ray: one worker in this process.
        quiet: print only the result.
        log: name of a file to which one JSON object is appended for each event; `-` writes them to standard
            error in place of the display.
        retry: run the tasks again that have failed before.
        location: folder or URL of the run; None for that of the run file. They differ if the run was moved.
    """

    address: str | None = None
    in_process: bool = False
    quiet: bool = False
    log: str | None = None
    retry: bool = False
    location: str | None = None


def launch(run: RunFile, options: LaunchOptions, *, command: str) -> int:
    """Execute a run, print its result, and return the exit code.

    Args:
        run: the run file.
        options: where the run is executed, and what is printed.
        command: that continues the run, for the last line of the output.

    Raises:
        BadRunFile: the run file is not possible; no task has been run.
        UserError: as for `execute`.
    """
    ended = execute(run, options)
    print_end(ended, command, options.quiet)
    return ended.code


def execute(run: RunFile, options: LaunchOptions) -> ExecutedRun:
    """Run the tasks of a run that are not complete; print no result.

    Args:
        run: the run file.
        options: where the run is executed, and what is printed.

    Raises:
        BadRunFile: the run file is not possible; no task has been run.
        UserError: another driver holds the lease or has taken the run over, no worker can start, or the log
            cannot be written to.
    """
    identity, data = identify_and_load(run)
    plan = Plan(run, identity)
    loaded = load_problem_of(plan, data)
    check_checkpoints(plan, loaded)
    if options.address is None:
        check_device(run)
    # The first start of the run has copied the results that it reuses. A retry does not read their runs
    # again, which may have been moved since.
    others = [] if options.retry else sources(run.reuse)
    location = options.location or run.location
    store = open_store(location)
    refuse_what_cannot_fit(plan, loaded.dimension, store.count("pairs"), location)
    with contextlib.ExitStack() as stack:
        lease = stack.enter_context(contextlib.closing(_acquire(store)))
        watch = StopWatch(store.objects, lease.term)
        switch = StopSwitch(stack.enter_context(contextlib.closing(watch)))
        if options.retry:
            store.clear_failures()
        try:
            choice = prepare_store(plan, store, loaded, lease, options.address)
        except WorkersUnavailable as error:
            raise UserError(str(error)) from None
        if others and (copied := reuse(plan, store, others, lease.term)):
            print(f"{copied} results of other runs are reused.", file=sys.stderr)
        keep_paths = run.keep_paths != "none"
        # The location in `url` is absolute, because a worker on another node starts in another folder.
        context = WorkerContext(
            store.objects.url,
            lease.term,
            choice.evaluation,
            ChosenFor(choice.device_type, plan.path_settings) if choice.device_type else None,
            keep_paths,
            run.resources.checkpoint_seconds,
            code_folders(),
        )
        observers = stack.enter_context(_observers(options, run.name, lease.term))

        def workers() -> Executor:
            executor = _executor(context, run, data, options, switch, observers)
            # Installed after Ray has started, because Ray installs its own handler of SIGTERM.
            stack.enter_context(stopping_on_signals(switch))
            return executor

        policy = Policy(
            max_attempts=run.resources.max_attempts,
            paths_at_once=choice.evaluation.paths_at_once,
            # On a shared cluster an idle machine costs money, or other jobs wait for it.
            idle_seconds=float("inf") if options.address is None else IDLE_SECONDS,
        )
        try:
            outcome = drive(
                plan, store, workers, lease, notify=observers, policy=policy, stop=switch
            )
            if outcome.ending is Ending.INTERRUPTED:
                outcome = replace(outcome, reason=switch.by)
            outcome = _tidied(plan, store, lease, outcome)
        except ClusterGone as error:
            outcome = Outcome(Ending.GAVE_UP, reason=str(error))
        except (Fenced, WorkersUnavailable) as error:
            raise UserError(str(error)) from None
    return ExecutedRun(outcome, plan, store, location)


def _acquire(store: Store) -> Lease:
    try:
        return Lease.acquire(store.objects)
    except LeaseHeld as error:
        raise UserError(str(error)) from None


def _tidied(plan: Plan, store: Store, lease: Lease, outcome: Outcome) -> Outcome:
    """Compact the records, delete objects that are no longer needed, and return the final outcome.

    Raises:
        Fenced: another driver holds the lease by now.
    """
    try:
        lease.confirm()
        # Segments that workers published, which were interrupted before they returned.
        store.adopt_segments(term=lease.term)
        compact(store, lease.term)
        drop_idle_checkpoints(plan, store)
        landscape = reduce_run(plan, store)
        prune(plan, landscape, store, lease.term, lease.confirm)
        if outcome.ending is Ending.FAILED and landscape.complete:
            # All tasks of the run file are complete. The failures in the store are of tasks that the run file
            # does not ask for any more.
            return Outcome(Ending.COMPLETE)
    except (StoreUnreachable, StoreFull, NotWritable) as error:
        if outcome.reason:  # the driver has already stopped for another reason
            return outcome
        return Outcome(Ending.GAVE_UP, outcome.failed, str(error))
    return outcome


def _executor(
    context: WorkerContext,
    run: RunFile,
    data: Dataset,
    options: LaunchOptions,
    switch: StopSwitch,
    observers: Observers,
) -> Executor:
    if options.in_process:
        return InProcess(context, switch.now)
    if options.address is None:
        protect_own_cluster()
    else:
        present_own_token()
    from orchestrator.cluster.connection import ClusterSettings
    from orchestrator.cluster.executor import RayExecutor
    from orchestrator.cluster.metrics import DriverMetrics

    settings = ClusterSettings(options.address, run.resources)
    # Workers on this machine map the same file; a copy in the object store would need memory.
    own = data.mapped and options.address is None
    executor = RayExecutor(context, settings, data=None if own else (run.data, data))
    observers.add(DriverMetrics(run.name, observers.tally))
    return executor


@contextlib.contextmanager
def _observers(options: LaunchOptions, run: str, lease_term: int) -> Iterator[Observers]:
    """The observers that show and log events, as `options` say.

    Raises:
        UserError: the log cannot be written to.
    """
    log = options.log
    context = {"run": run, "lease_term": lease_term}
    clock = functools.partial(datetime.now, UTC)
    if log == "-":
        yield Observers(JsonLines(sys.stderr, context, clock))
        return
    observers = Observers()
    if not options.quiet:
        observers.add(LiveDisplay(Console(stderr=True)) if sys.stderr.isatty() else PlainLines())
    if log is None:
        yield observers
        return
    try:
        stream = open(log, "a", encoding="utf-8")  # noqa: SIM115 - closed below
    except OSError as error:
        raise UserError(f"--log {log} cannot be written to ({error.strerror}).") from None
    with stream:
        observers.add(JsonLines(stream, context, clock))
        yield observers
