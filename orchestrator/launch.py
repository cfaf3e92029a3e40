"""Start a run or go on with it: lease, workers, the loop, and what is said at the end."""

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

import torch
from rich.console import Console

from orchestrator.analysis.reduction import reduce_run
from orchestrator.cluster.token import present_own_token, protect_own_cluster
from orchestrator.planning.cost import refuse_what_cannot_fit
from orchestrator.planning.fingerprints import identify_and_load
from orchestrator.planning.plan import Plan
from orchestrator.report.terminal import barcode_view
from orchestrator.run_file.errors import BadRunFile, UserError
from orchestrator.run_file.models import RunFile
from orchestrator.runs.maintenance import compact, drop_idle_checkpoints, prune
from orchestrator.runs.provenance import provenance
from orchestrator.runs.reuse import reuse, sources
from orchestrator.runs.stored_run import config_of
from orchestrator.scheduling.driver import Ending, Outcome, Stop, drive
from orchestrator.scheduling.executor import Executor, InProcess, WorkersUnavailable
from orchestrator.scheduling.lease import Fenced, Lease, LeaseHeld
from orchestrator.scheduling.scheduler import Policy
from orchestrator.scheduling.stop_request import StopWatch
from orchestrator.telemetry.observers import JsonLines, LiveDisplay, Observers, PlainLines
from topo_core.objectives.batching.precision import check_precision
from workers.execution.minimum_task import check_state_dict, read_state_dict
from workers.execution.strategy_probe import choose_evaluation, choose_for, device_here, hardware
from workers.execution.worker import WorkerContext
from workers.problems.data_sets import Dataset
from workers.problems.evaluation import Evaluation
from workers.problems.loaded_problem import Loaded, load_problem
from workers.problems.user_code import BadReference
from workers.storage.objects import NotWritable, StoreFull, StoreUnreachable
from workers.storage.open_objects import open_objects
from workers.storage.run_store import Store

EXIT = {
    Ending.COMPLETE: 0,
    Ending.FAILED: 3,
    Ending.GAVE_UP: 3,
    Ending.INTERRUPTED: 130,
}


@dataclass
class _Switch:
    """What signals and `toscore stop` have asked for; the second Ctrl-C does not wait for anything."""

    watch: StopWatch
    asked: Stop = Stop.NO

    def __call__(self) -> Stop:
        if self.asked is Stop.NO and self.watch.asked:
            return Stop.GRACEFUL
        return self.asked

    def pull(self, signum: int, frame: FrameType | None) -> None:
        if self.asked is Stop.NOW:
            os._exit(130)
        self.asked = Stop.NOW


@dataclass(frozen=True)
class Carried:
    """How a run ended for now, and where to read what there is of it."""

    outcome: Outcome
    plan: Plan
    store: Store

    @property
    def code(self) -> int:
        return EXIT[self.outcome.ending]


def launch(
    run: RunFile,
    *,
    source: str,
    address: str | None = None,
    in_process: bool = False,
    quiet: bool = False,
    log: str | None = None,
) -> int:
    """Run what is left of a run, and print what came of it.

    Args:
        run: the run file.
        source: what the user typed for it, for the line that continues the run.
        address: a Ray cluster that is up, or None for one of our own.
        in_process: no Ray at all.
        quiet: print nothing but the result.
        log: a file that gets one JSON object an event, appended; `-` for standard error, in place of
            the display.

    Returns:
        The exit code.

    Raises:
        BadRunFile, UserError: nothing has been run.
    """
    carried = carry_out(run, address=address, in_process=in_process, quiet=quiet, log=log)
    return _say(carried.outcome, carried.plan, carried.store, source, quiet)


def carry_out(
    run: RunFile,
    *,
    address: str | None = None,
    in_process: bool = False,
    quiet: bool = False,
    log: str | None = None,
) -> Carried:
    """Run what is left of a run: as `launch`, without a last word.

    Raises:
        BadRunFile, UserError: nothing has been run.
    """
    identity, data = identify_and_load(run)
    plan = Plan(run, identity)
    loaded = load_for(plan, data)
    check_checkpoints(plan, loaded)
    if address is None:
        check_device(run)
    others = sources(run.reuse)
    store = open_store(run.location)
    refuse_what_cannot_fit(plan, loaded.dimension, store.count("pairs"))
    try:
        lease = Lease.acquire(store.objects)
    except LeaseHeld as error:
        raise UserError(str(error)) from None
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.closing(lease))
        switch = _Switch(
            stack.enter_context(contextlib.closing(StopWatch(store.objects, lease.term)))
        )
        try:
            evaluation = _prepare(plan, store, loaded, lease, address)
        except WorkersUnavailable as error:
            raise UserError(str(error)) from None
        if others and (copied := reuse(plan, store, others, lease.term)):
            print(f"{copied} results of other runs count here too.", file=sys.stderr)
        keep_paths = run.keep_paths != "none"
        # Absolute: a worker on another node is started in another folder.
        context = WorkerContext(store.objects.url, lease.term, evaluation, keep_paths)

        observers = stack.enter_context(_observers(quiet, log, run.name, lease.term))

        def workers() -> Executor:
            executor = _executor(context, run, address, in_process)
            if not in_process:
                from orchestrator.cluster.ray_executor import DriverMetrics

                observers.add(DriverMetrics(run.name, observers.tally))
            # After Ray, which would take SIGTERM for itself.
            stack.enter_context(_signals(switch))
            return executor

        try:
            outcome = drive(
                plan,
                store,
                workers,
                lease,
                notify=observers,
                policy=Policy(
                    max_attempts=run.resources.max_attempts,
                    paths_at_once=evaluation.paths_at_once,
                ),
                stop=switch,
            )
            compact(store, lease.term, lease.confirm)
            drop_idle_checkpoints(plan, store)
            prune(plan, reduce_run(plan, store), store, lease.term, lease.confirm)
        except (Fenced, WorkersUnavailable) as error:
            raise UserError(str(error)) from None
        except (StoreUnreachable, StoreFull) as error:  # everything is done but for tidying up
            outcome = Outcome(Ending.GAVE_UP, reason=str(error))
    return Carried(outcome, plan, store)


def _prepare(
    plan: Plan, store: Store, loaded: Loaded, lease: Lease, address: str | None
) -> Evaluation:
    """Mend the store, close the books of earlier drivers, and write down how this one starts."""
    for damage in store.repair():
        print(f"{damage.reason}; it is made again.", file=sys.stderr)
    store.fence(lease.term)
    config, precision = store.latest_config(), plan.run.resources.precision
    before = None if config is None else Evaluation(**config["evaluation"])
    # Another precision asks for other results, which may need another strategy.
    if config is not None and before is not None and before.precision == precision:
        evaluation = before
        here = hardware()
        machine = here if address is None else {k: config["provenance"].get(k) for k in here}
    elif address is None:
        evaluation = choose_evaluation(loaded, plan.path_settings, precision)
        machine = hardware()
    else:  # the driver's machine may have no GPU where the workers have one
        present_own_token()
        from orchestrator.cluster.ray_executor import ClusterSettings, ask_a_worker

        there = ClusterSettings(address, plan.run.resources)
        evaluation, machine = ask_a_worker(
            there, choose_for, plan.problem, plan.path_settings, precision
        )
    written = config_of(plan, evaluation, provenance(plan.run, machine))
    store.publish_config(written, epoch=lease.term)
    return evaluation


def check_device(run: RunFile) -> None:
    """This machine's device computes as precisely as is asked for.

    Raises:
        BadRunFile: it has no units for that.
    """
    try:
        check_precision(run.resources.precision, torch.device(device_here()))
    except ValueError as error:
        raise BadRunFile(f"resources.{error}.") from None


def open_store(location: str) -> Store:
    """The store of a run, which can be written to.

    Raises:
        BadRunFile: it cannot; the sentence says why.
    """
    try:
        objects = open_objects(location)
        objects.check_writable()
    except (NotWritable, StoreUnreachable, StoreFull) as error:
        raise BadRunFile(f"store: {error}") from None
    return Store(objects)


def check_checkpoints(plan: Plan, loaded: Loaded) -> None:
    """The user's checkpoints fit the network.

    Raises:
        BadRunFile: the first mismatch.
    """
    for location in plan.run.minima.from_:
        try:
            check_state_dict(location, read_state_dict(location), loaded)
        except BadReference as error:
            raise BadRunFile(str(error)) from None


def load_for(plan: Plan, data: Dataset | None = None) -> Loaded:
    """The data and the network of a plan, in this process.

    Args:
        plan: of the run.
        data: of its problem, where they have been loaded already.

    Raises:
        BadRunFile: they do not fit together.
    """
    try:
        return load_problem(plan.problem, Evaluation(), data)
    except BadReference as error:
        raise BadRunFile(str(error)) from None


def _executor(
    context: WorkerContext, run: RunFile, address: str | None, in_process: bool
) -> Executor:
    if in_process:
        return InProcess(context)
    if address is None:
        protect_own_cluster()
    else:
        present_own_token()
    from orchestrator.cluster.ray_executor import ClusterSettings, RayExecutor

    return RayExecutor(context, ClusterSettings(address, run.resources))


@contextlib.contextmanager
def _signals(switch: _Switch) -> Iterator[None]:
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


def _say(outcome: Outcome, plan: Plan, store: Store, source: str, quiet: bool) -> int:
    if outcome.ending is Ending.INTERRUPTED:
        print(f"Interrupted. To go on: toscore run {source}", file=sys.stderr)
        return EXIT[outcome.ending]
    if outcome.ending is Ending.GAVE_UP:
        print(f"Gave up: {outcome.reason} To go on: toscore run {source}", file=sys.stderr)
        return EXIT[outcome.ending]
    landscape = reduce_run(plan, store)
    console = Console()
    console.print(barcode_view(landscape, console.width))
    if landscape.failures and not quiet:
        for failure in landscape.failures[:10]:
            print(f"{failure.what} failed: {failure.kind}: {failure.reason}", file=sys.stderr)
        print(f"To run the failed tasks again: toscore retry {plan.run.location}", file=sys.stderr)
    return EXIT[outcome.ending]
