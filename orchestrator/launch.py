"""Start a run or go on with it: lease, workers, the loop, and what is printed at the end."""

import contextlib
import functools
import os
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from types import FrameType

from rich.console import Console

from orchestrator.analysis.reduction import reduce_run
from orchestrator.cluster.token import present_own_token, protect_own_cluster
from orchestrator.endings import EXIT, Carried, print_end
from orchestrator.planning.fingerprints import identify_and_load
from orchestrator.planning.loading import load_for
from orchestrator.planning.plan import Plan
from orchestrator.planning.store_room import refuse_what_cannot_fit
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
from orchestrator.scheduling.outcome import Ending, Outcome, Stop
from orchestrator.scheduling.policy import Policy
from orchestrator.scheduling.stop_request import StopWatch
from orchestrator.telemetry.display import LiveDisplay, PlainLines
from orchestrator.telemetry.json_log import JsonLines
from orchestrator.telemetry.observers import Observers
from workers.execution.worker import WorkerContext
from workers.problems.data_sets import Dataset
from workers.problems.user_code import code_folders
from workers.storage.objects import Fenced, NotWritable, StoreFull, StoreUnreachable
from workers.storage.run_store import Store

IDLE_SECONDS = 60.0
"""An idle worker on a cluster of others is stopped after this: longer than a lazy rule takes between two
rounds, shorter than the two minutes after which autoscalers give a node back."""


@dataclass(frozen=True)
class Where:
    """Where the workers run: on a cluster, on one of our own in this machine, or in this process."""

    address: str | None = None
    """Of a Ray cluster that runs; None for one of our own."""
    in_process: bool = False
    """No Ray at all."""


@dataclass
class _StopSwitch:
    """What signals and `toscore stop` have asked for; a second signal ends the process at once."""

    watch: StopWatch
    asked: Stop = Stop.NO

    def __call__(self) -> Stop:
        if self.asked is Stop.NO and self.watch.asked:
            return Stop.GRACEFUL
        return self.asked

    def now(self) -> bool:
        """Whether a signal asked to leave at once."""
        return self.asked is Stop.NOW

    def pull(self, signum: int, frame: FrameType | None) -> None:
        """The handler of SIGINT and SIGTERM."""
        if self.asked is Stop.NOW:
            os._exit(EXIT[Ending.INTERRUPTED])
        self.asked = Stop.NOW


def launch(
    run: RunFile,
    *,
    go_on: str,
    address: str | None = None,
    in_process: bool = False,
    quiet: bool = False,
    log: str | None = None,
    retry: bool = False,
    location: str | None = None,
) -> int:
    """Run what is left of a run, and print its result.

    Args:
        run: the run file.
        go_on: the command that continues the run, for the last line.
        location: of the run, where it is not that of the run file: it was moved or renamed.
        address: a Ray cluster that is up, or None for one of our own.
        in_process: no Ray at all.
        quiet: print nothing but the result.
        log: a file that gets one JSON object an event, appended; `-` for standard error, in place of
            the display.
        retry: run the tasks that failed before once more.

    Returns:
        The exit code.

    Raises:
        BadRunFile, UserError: nothing has been run.
    """
    carried = carry_out(
        run,
        address=address,
        in_process=in_process,
        quiet=quiet,
        log=log,
        retry=retry,
        location=location,
    )
    print_end(carried, go_on, quiet)
    return carried.code


def carry_out(
    run: RunFile,
    *,
    address: str | None = None,
    in_process: bool = False,
    quiet: bool = False,
    log: str | None = None,
    retry: bool = False,
    location: str | None = None,
) -> Carried:
    """Run what is left of a run, as `launch` does, and print no result.

    Raises:
        BadRunFile, UserError: nothing has been run.
    """
    identity, data = identify_and_load(run)
    plan = Plan(run, identity)
    loaded = load_for(plan, data)
    check_checkpoints(plan, loaded)
    if address is None:
        check_device(run)
    # What a run that is tried again could reuse has been copied; the locations may not hold any more.
    others = [] if retry else sources(run.reuse)
    location = location or run.location
    store = open_store(location)
    refuse_what_cannot_fit(plan, loaded.dimension, store.count("pairs"), location)
    with contextlib.ExitStack() as stack:
        lease = stack.enter_context(contextlib.closing(_acquire(store)))
        watch = StopWatch(store.objects, lease.term)
        switch = _StopSwitch(stack.enter_context(contextlib.closing(watch)))
        if retry:
            store.clear_failures()
        try:
            evaluation = prepare_store(plan, store, loaded, lease, address)
        except WorkersUnavailable as error:
            raise UserError(str(error)) from None
        if others and (copied := reuse(plan, store, others, lease.term)):
            print(f"{copied} results of other runs count here too.", file=sys.stderr)
        keep_paths = run.keep_paths != "none"
        # Absolute: a worker on another node is started in another folder.
        context = WorkerContext(
            store.objects.url,
            lease.term,
            evaluation,
            keep_paths,
            run.resources.checkpoint_seconds,
            code_folders(),
        )
        observers = stack.enter_context(_observers(quiet, log, run.name, lease.term))

        def workers() -> Executor:
            where = Where(address, in_process)
            executor = _executor(context, run, data, where, switch, observers)
            # After Ray, which would take SIGTERM for itself.
            stack.enter_context(_signals(switch))
            return executor

        policy = Policy(
            max_attempts=run.resources.max_attempts,
            paths_at_once=evaluation.paths_at_once,
            # On a cluster of others, an idle machine is paid for or missing elsewhere.
            idle_seconds=float("inf") if address is None else IDLE_SECONDS,
        )
        try:
            outcome = drive(
                plan, store, workers, lease, notify=observers, policy=policy, stop=switch
            )
            outcome = _tidied(plan, store, lease, outcome)
        except ClusterGone as error:
            outcome = Outcome(Ending.GAVE_UP, reason=str(error))
        except (Fenced, WorkersUnavailable) as error:
            raise UserError(str(error)) from None
    return Carried(outcome, plan, store, location)


def _acquire(store: Store) -> Lease:
    try:
        return Lease.acquire(store.objects)
    except LeaseHeld as error:
        raise UserError(str(error)) from None


def _tidied(plan: Plan, store: Store, lease: Lease, outcome: Outcome) -> Outcome:
    """Compact the records and delete what is not needed any more.

    Raises:
        Fenced: another driver has the lease by now.
    """
    try:
        lease.confirm()
        store.adopt_segments(term=lease.term)  # of workers that were interrupted
        compact(store, lease.term)
        drop_idle_checkpoints(plan, store)
        landscape = reduce_run(plan, store)
        prune(plan, landscape, store, lease.term, lease.confirm)
        if outcome.ending is Ending.FAILED and landscape.complete:
            # The store also holds failures of tasks that the run file does not ask for any more.
            return Outcome(Ending.COMPLETE)
    except (StoreUnreachable, StoreFull, NotWritable) as error:
        if outcome.reason:  # the driver gave up for a reason of its own
            return outcome
        return Outcome(Ending.GAVE_UP, outcome.failed, str(error))
    return outcome


def _executor(
    context: WorkerContext,
    run: RunFile,
    data: Dataset,
    where: Where,
    switch: _StopSwitch,
    observers: Observers,
) -> Executor:
    if where.in_process:
        return InProcess(context, switch.now)
    if where.address is None:
        protect_own_cluster()
    else:
        present_own_token()
    from orchestrator.cluster.connection import ClusterSettings
    from orchestrator.cluster.executor import RayExecutor
    from orchestrator.cluster.metrics import DriverMetrics

    settings = ClusterSettings(where.address, run.resources)
    executor = RayExecutor(context, settings, data=(run.data, data))
    observers.add(DriverMetrics(run.name, observers.tally))
    return executor


@contextlib.contextmanager
def _signals(switch: _StopSwitch) -> Iterator[None]:
    """Ctrl-C and SIGTERM stop the loop."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {s: signal.signal(s, switch.pull) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _observers(quiet: bool, log: str | None, run: str, lease_term: int) -> Iterator[Observers]:
    """The display and the log that were asked for."""
    context = {"run": run, "lease_term": lease_term}
    clock = functools.partial(datetime.now, UTC)
    if log == "-":
        yield Observers(JsonLines(sys.stderr, context, clock))
        return
    observers = Observers()
    if not quiet:
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
