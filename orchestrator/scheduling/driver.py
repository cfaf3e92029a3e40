"""The loop that connects the scheduler, the executor and the store.

The loop reads the clock and passes the time to the scheduler. It keeps no state that the store lacks, so it
may be killed at any moment: the next driver reads from the store which tasks are complete.
"""

import contextlib
import gc
import time
from collections.abc import Callable, Mapping
from functools import partial

from orchestrator.planning.plan import Plan
from orchestrator.runs import maintenance
from orchestrator.scheduling.commits import commit_results
from orchestrator.scheduling.executor import Executor, ExecutorEvent, NoWorkers, WorkerSlow
from orchestrator.scheduling.lease import Lease
from orchestrator.scheduling.messages import (
    Added,
    Command,
    Complete,
    Event,
    Fail,
    GiveUp,
    OpenTask,
    PackFinished,
    Replace,
    Retire,
    Run,
    StopRequested,
    Tick,
    WorkerJoined,
    WorkerLost,
)
from orchestrator.scheduling.outcome import Ending, Outcome, Stop
from orchestrator.scheduling.policy import Policy
from orchestrator.scheduling.scheduler import Scheduler
from orchestrator.scheduling.store_retry import StoreRetry
from orchestrator.scheduling.task_reports import TaskReports
from orchestrator.scheduling.task_source import TaskSource
from orchestrator.telemetry import events
from orchestrator.telemetry.events import Observer
from workers.execution.progress import Interrupted
from workers.storage.objects import NotWritable, StoreFull, StoreUnreachable
from workers.storage.run_store import Store
from workers.tasks.results import Done, Failed, FailureKind

WINDOW = 4096
"""Largest number of open tasks in memory: enough for thousands of workers, in a few MB."""

POLL_SECONDS = 0.25
"""Longest wait in seconds for events of the executor, and so the longest delay of a stop request."""

PROGRESS_SECONDS = 1.0
"""Seconds between two checks of the lease, and between two `Progress` events."""

_STORE_IS_AWAY = (FailureKind.STORE, FailureKind.DISK_FULL)


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
    """Run the tasks of the plan that the store lacks, until none is left or a stop is requested.

    Args:
        plan: the tasks of the run.
        store: of the run.
        executor: makes the workers; called only if there are tasks to run, and closed here.
        lease: held by this driver.
        notify: receives the events of the run.
        policy: thresholds of the scheduler.
        stop: returns the present stop request; called in every iteration of the loop.
        clock: a monotonic clock, in seconds.

    Returns:
        How the driver ended.

    Raises:
        Fenced: another driver took the run over; nothing more is written by this one.
    """
    return _Drive(plan, store, executor, lease, notify, policy or Policy(), stop, clock).run()


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
        self._tasks = TaskReports(notify)
        self._started = clock()
        self._packs = 0
        self._last_progress = -1.0
        self._adopted: Mapping[str, str | None] = {}
        """Names of the objects of tasks that workers had completed before they were lost, by key."""
        self._gave_up: GiveUp | None = None
        self._retry = StoreRetry(
            policy, lambda reason: notify(events.Waiting(reason)), self._leaving
        )
        self._source = TaskSource(plan, store, self._scheduler.failed, self._retry, notify)

    def run(self) -> Outcome:
        # The garbage collector then skips all imported objects: examining them costs 0.1 s each time.
        gc.freeze()
        try:
            return self._run()
        except (StoreUnreachable, StoreFull) as error:  # after `Policy.patience` seconds
            self._gave_up = GiveUp(str(error))
            return self._end(Ending.INTERRUPTED if self._leaving() else Ending.GAVE_UP)
        except NotWritable as error:
            self._gave_up = GiveUp(str(error), curable=False)
            return self._end(Ending.GAVE_UP)
        finally:
            gc.unfreeze()

    def _leaving(self) -> bool:
        return self._stop() is Stop.NOW

    def _run(self) -> Outcome:
        self._scheduler.failed.update(self._retry(self._source.resume))
        if not self._work_left():
            return self._end(self._ending())
        try:
            with (
                contextlib.closing(
                    maintenance.Compaction(self._store, self._lease.term)
                ) as compaction,
                contextlib.closing(self._make_executor()) as executor,
            ):
                self._compaction, self._executor = compaction, executor
                self._handle(Tick())
                return self._end(self._loop())
        except (Interrupted, KeyboardInterrupt):
            return self._end(Ending.INTERRUPTED)

    def _loop(self) -> Ending:
        leaving = late = False
        while self._gave_up is None:
            asked = self._stop()
            if asked is Stop.NOW:
                return Ending.INTERRUPTED
            if asked is Stop.GRACEFUL and not leaving:
                leaving = True
                self._handle(StopRequested())
            if leaving and not self._scheduler.running:
                return self._ending() if late else Ending.STOPPED
            if not leaving and not self._work_left():
                return self._ending()
            happened = self._executor.poll(POLL_SECONDS)
            if not leaving and self._out_of_time():  # before a free worker receives more tasks
                leaving = late = True
                self._handle(StopRequested())
            self._commit(happened)
            for event in happened:
                self._absorb(event)
            self._handle(Tick())
            self._report()
        return Ending.GAVE_UP if self._gave_up.curable else Ending.SAME_FAILURE

    def _out_of_time(self) -> bool:
        """Whether `pairs.max_hours` have passed since the start of this driver."""
        hours = self._plan.run.pairs.max_hours
        return hours is not None and self._clock() - self._started > 3600 * hours

    def _ending(self) -> Ending:
        return Ending.FAILED if self._scheduler.failed else Ending.COMPLETE

    def _end(self, ending: Ending) -> Outcome:
        failed = len(self._scheduler.failed)
        interrupted = ending in (Ending.INTERRUPTED, Ending.STOPPED)
        self._notify(events.RunFinished(ending is Ending.COMPLETE, failed, interrupted))
        return Outcome(ending, failed, self._gave_up.reason if self._gave_up else "")

    def _work_left(self) -> bool:
        """Fill the window of open tasks; return False once all tasks are complete or failed."""
        while self._fill() and not self._scheduler.open_tasks:
            if not self._source.extend():
                return False
        return True

    def _fill(self) -> bool:
        """Fill the window of open tasks; return True if the source has no more tasks for now."""
        free = WINDOW - self._scheduler.open_tasks
        if free < WINDOW // 4 and self._scheduler.open_tasks:
            return False
        fresh = self._source.take(free)
        self._tasks.opened(fresh)
        if fresh:
            self._handle(Added([OpenTask(t.key, t.depends_on, type(t).__name__) for t in fresh]))
        return len(fresh) < free

    def _commit(self, happened: list[ExecutorEvent]) -> None:
        """Commit the published records, before an event reports their tasks as complete."""
        lost = [event.worker for event in happened if isinstance(event, WorkerLost)]
        lost = [worker for worker in lost if self._scheduler.packs_on(worker)]
        if not lost and not any(isinstance(event, PackFinished) for event in happened):
            self._adopted = {}
            return
        commit = partial(commit_results, self._store, happened, lost, self._lease.term)
        self._adopted = self._retry(commit)
        self._source.remember(self._adopted)

    def _absorb(self, event: ExecutorEvent) -> None:
        match event:
            case WorkerSlow(worker, key, seconds):
                self._tasks.slow(worker, key, seconds)
                return
            case NoWorkers(reason):
                self._notify(events.Waiting(reason))
                return
            case WorkerJoined(worker, node):
                self._tasks.joined(worker, node)
            case WorkerLost(worker, how, cause):
                self._notify(events.WorkerLost(worker, how.value, cause))
                ran = (key for pack in self._scheduler.packs_on(worker) for key in pack)
                event = WorkerLost(worker, how, cause, frozenset(ran) & self._adopted.keys())
            case PackFinished(results=results):
                self._packs += 1
                if self._packs % maintenance.SEGMENTS == 0:
                    self._compaction.start()
                away = [r for r in results if isinstance(r, Failed) and r.kind in _STORE_IS_AWAY]
                if away:
                    self._notify(events.Waiting(away[0].reason))
                done = [result for result in results if isinstance(result, Done)]
                self._tasks.returned(done)
                self._source.remember({result.key: result.object for result in done})
        self._handle(event)

    def _handle(self, event: Event) -> None:
        for command in self._scheduler.handle(event, self._clock()):
            self._perform(command)

    def _perform(self, command: Command) -> None:
        match command:
            case Run(worker, pack):
                tasks = [self._tasks[key] for key in pack]
                self._executor.submit(worker, [self._source.with_objects(task) for task in tasks])
                self._tasks.started(worker, tasks)
            case Complete(key):
                self._tasks.completed(key)
            case Fail(failure, lasting):
                self._fail(failure, lasting)
            case Replace(worker, reason, drain):
                self._executor.replace(worker, start_again=not drain)
                self._notify(events.WorkerReplaced(worker, reason, drain))
            case Retire(worker):
                self._executor.retire(worker)
                self._notify(events.WorkerRetired(worker))
            case GiveUp():
                self._gave_up = command

    def _fail(self, failure: Failed, lasting: bool) -> None:
        if lasting:
            written = {
                "what": self._tasks[failure.key].title,
                "kind": failure.kind.value,
                "reason": failure.reason,
                "details": failure.details,
            }
            self._retry(
                lambda: self._store.publish_failure(failure.key, written, term=self._lease.term)
            )
        self._tasks.failed(failure)

    def _report(self) -> None:
        """Check that the lease is still held, and notify observers of the progress of running tasks."""
        now = self._clock()
        if now - self._last_progress < PROGRESS_SECONDS:
            return
        self._last_progress = now
        # Without a lease no task may be sent out: wait until the lease is renewed, or give up.
        self._retry(self._lease.check)
        self._executor.want(self._scheduler.open_tasks)
        shares = self._tasks.shares(self._executor.progress())
        scheduler = self._scheduler
        self._notify(events.Progress(scheduler.running, scheduler.workers, shares))
