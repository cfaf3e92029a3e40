"""The loop that joins the machine, the executor and the store.

Here, and nowhere below, the clock is read. The loop holds no truth of its own: it may die at any
moment, and the next one finds in the store what is done.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from enum import Enum
from functools import partial
from itertools import chain, compress, islice
from operator import not_

from orchestrator.planning.discovery import discovered
from orchestrator.planning.pair_selection import Rounds
from orchestrator.planning.plan import Plan
from orchestrator.runs import maintenance
from orchestrator.scheduling.executor import Executor, ExecutorEvent, WorkerSlow
from orchestrator.scheduling.lease import Lease
from orchestrator.scheduling.scheduler import (
    Added,
    Command,
    Complete,
    Event,
    Fail,
    GiveUp,
    Open,
    PackFinished,
    Policy,
    Run,
    Scheduler,
    StopRequested,
    Tick,
    WorkerJoined,
    WorkerLost,
)
from orchestrator.scheduling.store_retry import Patience
from orchestrator.telemetry import observers as observe
from orchestrator.telemetry.observers import Observer
from workers.execution.progress import Interrupted
from workers.storage.objects import StoreFull, StoreUnreachable
from workers.storage.run_store import Store
from workers.storage.schema import KINDS
from workers.tasks.results import Done, Failed, FailureKind
from workers.tasks.tasks import (
    DescendMinimum,
    ImportMinimum,
    OptimizePath,
    OptimizeSimplex,
    Task,
    TrainMinimum,
)

WINDOW = 4096
"""Open tasks held at once; enough for any number of workers, few enough to forget about memory."""

POLL_SECONDS = 0.25

_STORE_IS_AWAY = (FailureKind.STORE, FailureKind.DISK_FULL)


class Ending(Enum):
    COMPLETE = "complete"
    FAILED = "some tasks failed"
    INTERRUPTED = "interrupted"
    GAVE_UP = "the store went away"


@dataclass(frozen=True)
class Outcome:
    ending: Ending
    failed: int = 0
    reason: str = ""


class Stop(Enum):
    """What was asked for from outside."""

    NO = 0
    GRACEFUL = 1
    """Finish what runs, then leave."""
    NOW = 2
    """Leave at once; work since the last checkpoints is done again."""


def drive(
    plan: Plan,
    store: Store,
    executor: Callable[[], Executor],
    lease: Lease,
    *,
    notify: Observer,
    policy: Policy | None = None,
    stop: Callable[[], Stop] = lambda: Stop.NO,
    clock: Callable[[], float] = time.monotonic,
) -> Outcome:
    """Run what the plan asks for and the store lacks, until nothing is left or a stop is asked for.

    Args:
        plan: what is wanted.
        store: what there is.
        executor: makes the workers; called only if there is something to do, and closed here.
        lease: held by this driver.
        notify: is told what happens.
        policy: thresholds of the machine.
        stop: asked in every turn of the loop.
        clock: seconds that do not run backwards.

    Raises:
        Fenced: another driver took the run over; nothing more is written by this one.
    """
    return _Drive(plan, store, executor, lease, notify, policy or Policy(), stop, clock).run()


@dataclass(frozen=True)
class Attempt:
    """Where a task was sent, and which time that was."""

    worker: str = ""
    node: str = ""
    attempt: int = 0


class _Drive:
    def __init__(
        self,
        plan: Plan,
        store: Store,
        executor: Callable[[], Executor],
        lease: Lease,
        notify: Observer,
        policy: Policy,
        stop: Callable[[], Stop],
        clock: Callable[[], float],
    ) -> None:
        self._plan, self._store, self._make_executor = plan, store, executor
        self._lease, self._notify, self._stop, self._clock = lease, notify, stop, clock
        self._scheduler = Scheduler(policy)
        self._open: dict[str, Task] = {}
        self._figures: dict[str, float] = {}
        self._source: Iterator[Task] = iter(())
        self._rounds: Rounds | None = None
        self._started = clock()
        self._packs = 0
        self._last_beat = -1.0
        self._nodes: dict[str, str] = {}
        # Where each open task runs or ran last, and which time that is.
        self._attempts: dict[str, Attempt] = {}
        self._gave_up = ""
        self._patiently = Patience(
            policy, lambda reason: notify(observe.Waiting(reason)), self._leaving
        )

    def run(self) -> Outcome:
        try:
            return self._run()
        except (StoreUnreachable, StoreFull) as error:  # after all patience
            self._gave_up = str(error)
            return self._end(Ending.INTERRUPTED if self._leaving() else Ending.GAVE_UP)

    def _leaving(self) -> bool:
        return self._stop() is Stop.NOW

    def _run(self) -> Outcome:
        self._patiently(self._resume)
        if not self._work_left():
            return self._end(self._ending())
        try:
            with contextlib.closing(self._make_executor()) as executor:
                self._executor = executor
                self._handle(Tick())
                return self._end(self._loop())
        except (Interrupted, KeyboardInterrupt):
            return self._end(Ending.INTERRUPTED)

    def _loop(self) -> Ending:
        leaving = late = False
        while not self._gave_up:
            asked = self._stop()
            if asked is Stop.NOW:
                return Ending.INTERRUPTED
            if asked is Stop.GRACEFUL and not leaving:
                leaving = True
                self._handle(StopRequested())
            if leaving and not self._scheduler.running:
                return self._ending() if late else Ending.INTERRUPTED
            if not leaving and not self._work_left():
                return self._ending()
            events = self._executor.poll(POLL_SECONDS)
            if not leaving and self._out_of_time():  # before a free worker is given more
                leaving = late = True
                self._handle(StopRequested())
            for event in events:
                self._absorb(event)
            self._handle(Tick())
            self._beat()
        return Ending.GAVE_UP

    def _out_of_time(self) -> bool:
        """Whether `pairs.max_hours` are over, counted from the start of this driver."""
        hours = self._plan.run.pairs.max_hours
        return hours is not None and self._clock() - self._started > 3600 * hours

    def _ending(self) -> Ending:
        return Ending.FAILED if self._scheduler.failed else Ending.COMPLETE

    def _end(self, ending: Ending) -> Outcome:
        failed = len(self._scheduler.failed)
        self._notify(
            observe.RunFinished(ending is Ending.COMPLETE, failed, ending is Ending.INTERRUPTED)
        )
        return Outcome(ending, failed, self._gave_up)

    def _resume(self) -> None:
        """Look what the store holds, and start with what it lacks."""
        plan, store = self._plan, self._store
        have, simplices = store.completed("minima"), store.completed("simplices")
        done = store.are_complete("pairs", plan.path_keys())
        failures = store.failures()
        for key, failure in failures.items():
            self._scheduler.failed[key] = FailureKind(failure["kind"])
        minima = set(plan.minimum_keys)
        self._announced = observe.RunStarted(
            plan.run.name,
            minima=len(minima),
            minima_done=len(minima & have),
            pairs=plan.pair_count * len(plan.rungs),
            pairs_done=sum(done),
            adaptive=plan.adaptive,
            simplices=sum(plan.simplex_count(d) for d in plan.simplex_dimensions),
            simplices_done=len(simplices),
        )
        self._notify(self._announced)
        # An adaptive rule names its paths itself, round by round.
        left = () if plan.adaptive else compress(plan.pairs(), map(not_, done))
        self._source = (
            task for task in plan.remaining(have | simplices, left) if task.key not in failures
        )

    def _work_left(self) -> bool:
        """Top up the window; false once everything is done."""
        while self._feed() and not self._scheduler.open_tasks:
            fresh = self._patiently(self._next_round) or self._patiently(self._discovered)
            if not fresh:
                return False
            self._source = iter(fresh)
        return True

    def _next_round(self) -> list[Task]:
        """The paths of an adaptive rule's next round; none when the rule is at an end."""
        plan = self._plan
        if not plan.adaptive:
            return []
        heights = self._store.figures("pairs")
        if self._rounds is None:
            losses = self._store.figures("minima")
            self._rounds = plan.rounds(
                {i: losses[key] for i, key in enumerate(plan.minimum_keys) if key in losses}
            )
        rounds = self._rounds
        rounds.advance(
            lambda order: heights.get(plan.order_key(order, rounds)),
            lambda order: plan.order_key(order, rounds) in self._scheduler.failed,
        )
        return [plan.ordered_path(order, rounds) for order in rounds.waiting]

    def _discovered(self) -> list[Task]:
        """What minima inside the finished paths ask for, if the run asks for them."""
        larger = discovered(self._plan, self._store)
        if larger == self._plan:
            return []
        self._plan, self._rounds = larger, None
        self._announced = replace(
            self._announced,
            minima=len(larger.minima),
            pairs=larger.pair_count * len(larger.rungs),
        )
        self._notify(self._announced)
        tasks = list(larger.tasks())
        settled = self._published([t.key for t in tasks]) | self._scheduler.failed.keys()
        return [task for task in tasks if task.key not in settled]

    def _feed(self) -> bool:
        """Top up the window; true once the source is dry."""
        room = WINDOW - self._scheduler.open_tasks
        if room < WINDOW // 4 and self._scheduler.open_tasks:
            return False
        fresh = list(islice(self._source, room))
        for task in fresh:
            self._open[task.key] = task
        if fresh:
            self._handle(Added([Open(t.key, t.depends_on, type(t).__name__) for t in fresh]))
        return len(fresh) < room

    def _absorb(self, event: ExecutorEvent) -> None:
        match event:
            case WorkerSlow(worker, key, seconds):
                if task := self._open.get(key):
                    self._notify(observe.TaskSlow(key, describe(task), worker, seconds))
                return
            case WorkerJoined(worker, node):
                self._nodes[worker] = node
                self._notify(observe.WorkerCame(worker, node))
            case WorkerLost(worker, how, cause):
                self._notify(observe.WorkerWent(worker, how.value, cause))
                # It may have published more than it lived to tell.
                ran = [key for pack in self._scheduler.packs_on(worker) for key in pack]
                published = self._patiently(partial(self._published, ran))
                event = WorkerLost(worker, how, cause, published)
            case PackFinished(results=results):
                self._packs += 1
                if self._packs % maintenance.SEGMENTS == 0:
                    with contextlib.suppress(StoreUnreachable, StoreFull):  # another time
                        maintenance.compact(self._store, self._lease.epoch, self._lease.confirm)
                away = [r for r in results if isinstance(r, Failed) and r.kind in _STORE_IS_AWAY]
                if away:
                    self._notify(observe.Waiting(away[0].reason))
                self._figures |= {r.key: r.figure for r in results if isinstance(r, Done)}
        self._handle(event)

    def _published(self, keys: Sequence[str]) -> frozenset[str]:
        """Those of the keys whose tasks are complete."""
        complete = (compress(keys, self._store.are_complete(kind, keys)) for kind in KINDS)
        return frozenset(chain.from_iterable(complete))

    def _handle(self, event: Event) -> None:
        for command in self._scheduler.handle(event, self._clock()):
            self._perform(command)

    def _perform(self, command: Command) -> None:
        match command:
            case Run(worker, pack):
                tasks = [self._open[key] for key in pack]
                self._executor.submit(worker, tasks)
                for task in tasks:
                    before = self._attempts.get(task.key, Attempt())
                    this = Attempt(worker, self._nodes.get(worker, ""), before.attempt + 1)
                    self._attempts[task.key] = this
                    self._notify(observe.TaskStarted(task.key, describe(task), **asdict(this)))
            case Complete(key):
                task = self._open.pop(key)
                figure = self._figures.pop(key, float("nan"))
                where = asdict(self._attempts.pop(key, Attempt()))
                self._notify(observe.TaskDone(key, describe(task), kind_of(task), figure, **where))
            case Fail(failure, lasting):
                task = self._open.pop(failure.key)
                if lasting:
                    self._patiently(partial(self._record, failure, task))
                where = asdict(self._attempts.pop(failure.key, Attempt()))
                self._notify(
                    observe.TaskFailed(
                        failure.key,
                        describe(task),
                        kind_of(task),
                        failure.kind,
                        failure.reason,
                        **where,
                    )
                )
            case GiveUp(reason):
                self._gave_up = reason

    def _record(self, failure: Failed, task: Task) -> None:
        self._store.publish_failure(
            failure.key,
            {
                "what": describe(task),
                "kind": failure.kind.value,
                "reason": failure.reason,
                "details": failure.details,
                "lease_epoch": self._lease.epoch,
            },
        )

    def _beat(self) -> None:
        now = self._clock()
        if now - self._last_beat < 1.0:
            return
        self._last_beat = now
        self._lease.renew()
        share = sum(self._executor.progress().values())
        scheduler = self._scheduler
        self._notify(observe.Beat(now, scheduler.running, scheduler.workers, share))


def describe(task: Task) -> str:
    """The name of a task for people."""
    match task:
        case TrainMinimum(index=index):
            return f"minimum {index}"
        case DescendMinimum(index=index):
            return f"minimum {index} (found in a path)"
        case ImportMinimum(index=index):
            return f"minimum {index} (imported)"
        case OptimizePath(i=i, j=j):
            return f"path {i}–{j}"
        case OptimizeSimplex(vertices=vertices):
            return f"simplex {'–'.join(map(str, vertices))}"


def kind_of(task: Task) -> str:
    match task:
        case TrainMinimum() | ImportMinimum() | DescendMinimum():
            return "minimum"
        case OptimizePath():
            return "path"
        case OptimizeSimplex():
            return "simplex"
