"""The scheduler: a pure function from events to commands.

    waiting → ready → running → done ↑        │ ├────────┤  worker lost, worker broken, out of memory in a
                pack: ready again paused ←─┤  store unreachable or full: ready again after a pause failed ←─┘
                diverged, bad input, bug, kills its worker; and from waiting, if a dependency fails

The scheduler uses no clock, no store and no Ray: the driver passes in events with the time, and carries out
the commands. Only open tasks are kept, so a run of half a million pairs needs constant memory.

A running task may have a copy on a second worker (`stragglers`). The first result counts, and the other
worker is stopped. If one of the two copies is lost or cannot be published, the other one continues.
"""

from orchestrator.scheduling.assignment import Assignment
from orchestrator.scheduling.faults import CircuitBreaker, WorkerFaults
from orchestrator.scheduling.messages import (
    Added,
    Command,
    Event,
    GiveUp,
    Loss,
    PackFinished,
    Replace,
    Retire,
    StopRequested,
    Tick,
    WorkerJoined,
    WorkerLost,
)
from orchestrator.scheduling.open_tasks import OpenTasks
from orchestrator.scheduling.policy import Policy, StoreOutage
from orchestrator.scheduling.task_states import IllegalTransition, TaskState
from orchestrator.scheduling.worker_queues import Pack, WorkerQueues
from workers.tasks.results import Failed, FailureKind

_OF_THE_COPY = frozenset(
    {
        FailureKind.STORE,
        FailureKind.DISK_FULL,
        FailureKind.OUT_OF_MEMORY,
        FailureKind.WORKER,
    }
)
"""Failures of one copy of a task that do not end the other copy."""


class Scheduler:
    """Holds the open tasks and the queues of the workers; only `handle` changes them."""

    def __init__(self, policy: Policy | None = None) -> None:
        self.policy = policy or Policy()
        self.stopping = False
        """Whether no more tasks are handed out: a stop was requested, or the run has given up."""
        self.gave_up = False
        self._tasks = OpenTasks()
        self._workers = WorkerQueues()
        self._restarting: set[str] = set()
        self._assignment = Assignment(self.policy, self._tasks, self._workers)
        self._outage = StoreOutage(self.policy)
        self._faults = WorkerFaults(self.policy)
        self._breaker = CircuitBreaker(self.policy)

    @property
    def done(self) -> int:
        """Number of completed tasks."""
        return self._tasks.done

    @property
    def failed(self) -> dict[str, FailureKind]:
        """Kind of each failure, by key; the driver adds the failures of earlier drivers."""
        return self._tasks.failed

    @property
    def open_tasks(self) -> int:
        """Number of tasks that are neither complete nor failed."""
        return len(self._tasks)

    @property
    def ready(self) -> int:
        """Number of tasks that could start now if a worker were free."""
        return self._tasks.ready

    @property
    def running(self) -> int:
        """Number of tasks that workers hold; a task with a copy counts once."""
        return len(set(self._workers.tasks()))

    @property
    def workers(self) -> int:
        """Number of workers that have joined."""
        return len(self._workers)

    def packs_on(self, worker: str) -> tuple[Pack, ...]:
        """The packs of a worker, the running one first."""
        return self._workers.packs(worker)

    def handle(self, event: Event, now: float) -> list[Command]:
        """Apply one event.

        Args:
            event: what happened.
            now: seconds on a monotonic clock.

        Returns:
            The commands to carry out, in this order.

        Raises:
            IllegalTransition: the event contradicts the state; the message holds the history.
        """
        commands: list[Command] = []
        match event:
            case Added(tasks):
                for task in tasks:
                    commands += self._tasks.add(task)
            case WorkerJoined(worker=worker):
                if worker in self._workers:
                    raise IllegalTransition(f"worker {worker} joined twice")
                self._workers.join(worker)
                self._restarting.discard(worker)
            case WorkerLost():
                self._lose(event, commands)
            case PackFinished():
                self._finish(event, now, commands)
            case StopRequested():
                self.stopping = True
            case Tick():
                pass
        self._tasks.wake(now)
        if not self.stopping:
            commands += self._assignment.hand_out(now)
        if isinstance(event, Tick):
            if not self.stopping:
                commands += self._assignment.copy_stragglers(now)
            if self.policy.idle_seconds < float("inf"):
                self._retire(now, commands)
        return commands

    def validate_state(self) -> None:
        """Check that the parts of the state agree with each other; tests call it after every event.

        Raises:
            IllegalTransition: they disagree.
        """
        if not self._workers.is_sound():
            raise IllegalTransition("workers are not sorted by their packs")
        held: dict[str, set[str]] = {}
        for worker in self._workers:
            for pack in self._workers.packs(worker):
                for key in pack:
                    held.setdefault(key, set()).add(worker)
        self._tasks.validate(set(held))
        for key, workers in held.items():
            if self._tasks[key].workers != workers:
                raise self._tasks[key].illegal(f"held by {workers}")

    # Ends of tasks.

    def _complete(self, key: str, commands: list[Command]) -> None:
        task = self._tasks.get(key)
        if task is None:
            return
        self._breaker.completed()
        commands += self._tasks.complete(key)
        self._stop_copies(task, commands)

    def _fail(self, task: TaskState, failure: Failed, commands: list[Command]) -> None:
        """Fail a task and all tasks that depend on it."""
        commands += self._tasks.fail(failure)
        self._stop_copies(task, commands)
        if why := self._breaker.failed(failure):
            self._give_up(GiveUp(why, curable=False), commands)

    def _stop_copies(self, task: TaskState, commands: list[Command]) -> None:
        """Stop the workers that still hold a task that has ended."""
        for worker in sorted(task.workers):
            for pack in reversed(self._workers.leave(worker)):
                others = [key for key in pack if key != task.open.key]
                self._return(others, worker, f"queued on {worker}, which was stopped")
            self._restarting.add(worker)
            commands.append(Replace(worker, f"another worker was first with {task.open.key}"))
        task.workers.clear()

    def _return(self, keys: list[str], worker: str, why: str) -> None:
        """Put tasks that a worker no longer holds at the head of the queue."""
        for key in reversed(keys):
            task = self._tasks.running(key, why)
            task.workers.discard(worker)
            if not task.workers:
                self._tasks.make_ready(task, first=True)

    def _give_up(self, command: GiveUp, commands: list[Command]) -> None:
        self.stopping = self.gave_up = True
        commands.append(command)

    # Workers that are lost.

    def _lose(self, event: WorkerLost, commands: list[Command]) -> None:
        """Return the tasks of a lost worker; only its first pack was running and may be the cause."""
        packs = self._workers.leave(event.worker)
        for position, pack in reversed(
            [*enumerate(packs)]
        ):  # backwards, since each is put at the head of the queue
            for key in pack:
                self._tasks[key].workers.discard(event.worker)
            for key in [key for key in pack if key in event.done]:
                self._complete(key, commands)
            left = [key for key in pack if key not in event.done]
            for key in reversed(left):
                task = self._tasks.running(key, f"lost with {event.worker}: {event.how.value}")
                if position == 0 and event.how is not Loss.PREEMPTED:
                    self._blame(task, len(left) == 1, event, commands)
                if key in self._tasks and not task.workers:
                    self._tasks.make_ready(task, first=True)

    def _blame(
        self, task: TaskState, alone: bool, event: WorkerLost, commands: list[Command]
    ) -> None:
        task.kills += 1
        task.kills_alone += alone
        task.alone = task.alone or task.kills >= self.policy.shared_kills
        if task.kills_alone >= self.policy.max_attempts:
            reason = (
                f"{task.kills_alone} workers in a row were lost while they ran this task alone "
                f"({event.how.value}: {event.cause})"
            )
            failure = Failed(task.open.key, FailureKind.KILLS_ITS_WORKER, reason)
            self._fail(task, failure, commands)

    # Results.

    def _finish(self, event: PackFinished, now: float, commands: list[Command]) -> None:
        if not self._workers.packs(event.worker):
            return  # the worker counts as lost, and its tasks are back in the queue
        pack = self._workers.pop(event.worker, now)
        first = self._tasks[pack[0]].open
        self._assignment.sizes.learn(first.kind, len(pack), event.seconds)
        answered = {result.key for result in event.results}
        for key in set(pack) - answered:
            raise IllegalTransition(f"{event.worker} returned a pack without {key}")
        broken: list[Failed] = []
        for result in event.results:
            if not isinstance(result, Failed):
                self._outage.answered()
                self._faults.completed(event.worker)
                self._assignment.stragglers.learn(first.kind, event.seconds / len(pack))
                self._tasks[result.key].workers.discard(event.worker)
                self._complete(result.key, commands)
                continue
            task = self._tasks.running(result.key, f"{result.kind.value}: {result.reason}")
            task.workers.discard(event.worker)
            if result.kind is FailureKind.WORKER:
                broken.append(result)
            elif not (task.workers and result.kind in _OF_THE_COPY):
                self._failed(task, result, len(pack) == 1, now, commands)
        if broken:
            self._replace(event.worker, broken, commands)

    def _failed(
        self, task: TaskState, result: Failed, alone: bool, now: float, commands: list[Command]
    ) -> None:
        """Handle a failure that is not caused by the worker: pause the task, repeat it, or fail it."""
        match result.kind:
            case FailureKind.STORE | FailureKind.DISK_FULL:
                pause = self._outage.failed(now)
                if self._outage.is_hopeless(now):
                    self._give_up(GiveUp(result.reason), commands)
                self._tasks.pause(task, now + pause)
            case FailureKind.OUT_OF_MEMORY if not alone:
                task.alone = True
                self._tasks.make_ready(task, first=True)
            case _ if self.gave_up:  # not recorded: it shares the cause for which the run gave up
                if not task.workers:
                    self._tasks.make_ready(task)
            case _:
                self._fail(task, result, commands)

    def _replace(self, worker: str, broken: list[Failed], commands: list[Command]) -> None:
        """Return the tasks of a worker whose set-up failed, and start the worker again or drain it.

        Only the first failure of a pack may be the cause of the others. It is counted against its task only
        if the worker has completed a task before; otherwise the worker itself is the likely cause.
        """
        for position, failure in enumerate(broken):
            task = self._tasks[failure.key]
            task.broke.add(worker)
            task.alone = task.alone or position == 0
            if position == 0:
                self._faults.failed(worker, failure.key)
                task.breaks += self._faults.is_proven(worker)
            if task.breaks >= self.policy.max_attempts:
                reason = f"{task.breaks} workers were broken after this task ({failure.reason})"
                kind = FailureKind.KILLS_ITS_WORKER
                self._fail(task, Failed(failure.key, kind, reason, failure.details), commands)
            elif not task.workers:
                self._tasks.make_ready(task)
        for pack in reversed(self._workers.leave(worker)):
            self._return([*pack], worker, f"queued on {worker}, which broke")
        drain = self._faults.is_beyond_repair(worker)
        commands.append(Replace(worker, broken[0].reason, drain))
        if not drain:
            self._restarting.add(worker)
        elif not len(self._workers) and not self._restarting:
            why = f"No worker can run tasks ({broken[0].reason}). Remove the cause."
            self._give_up(GiveUp(why, curable=False), commands)

    def _retire(self, now: float, commands: list[Command]) -> None:
        """Retire idle workers that the tasks not yet handed out do not need; one worker always stays."""
        idle = self._workers.idle_for(self.policy.idle_seconds, now)
        to_come = 0 if self.stopping else len(self._tasks) - self.running
        spare = min(self._workers.idle - to_come, len(self._workers) - 1)
        for worker in idle[: max(0, spare)]:
            self._workers.leave(worker)
            commands.append(Retire(worker))
