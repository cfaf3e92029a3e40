"""The scheduler: a pure function from events to commands.

    waiting → ready → running → done
                ↑        │
                ├────────┤  worker lost, worker broken, out of memory in a pack: ready again
                paused ←─┤  store unreachable or full: ready again after a pause
                failed ←─┘  diverged, bad input, bug, kills its worker; and from waiting, with what it needs

There is no clock, no store and no Ray here: each event brings its time, and the driver carries out the
commands. Only open tasks are kept, so that half a million pairs pass through in constant memory.
"""

from collections import deque
from collections.abc import Iterator
from itertools import islice

from orchestrator.scheduling.faults import Breaker, WorkerFaults
from orchestrator.scheduling.messages import (
    NOT_LASTING,
    Added,
    Command,
    Complete,
    Event,
    Fail,
    GiveUp,
    Loss,
    Open,
    PackFinished,
    Replace,
    Retire,
    Run,
    StopRequested,
    Tick,
    WorkerJoined,
    WorkerLost,
)
from orchestrator.scheduling.policy import PackSizes, Policy, StoreOutage
from orchestrator.scheduling.task_states import IllegalTransition, Status, TaskState
from orchestrator.scheduling.worker_queues import WorkerQueues
from workers.tasks.path_tasks import OptimizePath
from workers.tasks.results import Failed, FailureKind


class Scheduler:
    """Holds the open tasks and the workers' queues; only `handle` changes them."""

    def __init__(self, policy: Policy | None = None) -> None:
        self.policy = policy or Policy()
        self.done = 0
        self.failed: dict[str, FailureKind] = {}
        self.stopping = False
        """Whether no more tasks are handed out: a stop was requested, or the run has given up."""
        self.gave_up = False
        self._tasks: dict[str, TaskState] = {}
        self._ready: deque[str] = deque()
        self._paused: list[str] = []
        self._dependents: dict[str, list[str]] = {}
        self._workers = WorkerQueues()
        self._restarting: set[str] = set()
        self._sizes = PackSizes(self.policy)
        self._outage = StoreOutage(self.policy)
        self._faults = WorkerFaults(self.policy)
        self._breaker = Breaker(self.policy)

    @property
    def open_tasks(self) -> int:
        """Tasks that are neither complete nor failed."""
        return len(self._tasks)

    @property
    def ready(self) -> int:
        """Tasks that could start now if a worker were free."""
        return len(self._ready)

    @property
    def running(self) -> int:
        """Tasks that were sent to a worker."""
        return sum(1 for _ in self._workers.tasks())

    @property
    def workers(self) -> int:
        """Workers that have joined."""
        return len(self._workers)

    def packs_on(self, worker: str) -> tuple[tuple[str, ...], ...]:
        """The packs of a worker, the running one first."""
        return self._workers.packs(worker)

    def handle(self, event: Event, now: float) -> list[Command]:
        """Apply one event.

        Args:
            event: what happened.
            now: seconds on any clock that does not run backwards.

        Returns:
            The commands to carry out, in this order.

        Raises:
            IllegalTransition: the event contradicts the state; the message holds the history.
        """
        commands: list[Command] = []
        match event:
            case Added(tasks):
                for task in tasks:
                    self._add(task, commands)
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
        self._wake(now)
        self._hand_out(commands)
        if isinstance(event, Tick) and self.policy.idle_seconds < float("inf"):
            self._retire(now, commands)
        return commands

    def validate_state(self) -> None:
        """Check that the parts of the state agree with each other; tests call it after every event.

        Raises:
            IllegalTransition: they do not.
        """
        if not self._workers.is_sound():
            raise IllegalTransition("workers are not sorted by their packs")
        for status, keys in (
            (Status.READY, list(self._ready)),
            (Status.RUNNING, list(self._workers.tasks())),
            (Status.PAUSED, self._paused),
        ):
            expected = sorted(key for key, task in self._tasks.items() if task.status is status)
            if sorted(keys) != expected:
                raise IllegalTransition(f"{status.value}: {sorted(keys)} listed, {expected} marked")
        for key, task in self._tasks.items():
            if (task.status is Status.WAITING) != bool(task.missing):
                raise task.illegal(f"kept with {task.missing or 'nothing'} missing")
            if not task.missing <= self._tasks.keys():
                raise task.illegal("left waiting for a task that is not open")
            if key in self.failed:
                raise task.illegal("failed as well")

    # Transitions of tasks.

    def _add(self, new: Open, commands: list[Command]) -> None:
        if new.key in self._tasks:
            return
        broken = [d for d in new.depends_on if d in self.failed]
        task = TaskState(new, {d for d in new.depends_on if d in self._tasks})
        self._tasks[new.key] = task
        if broken:
            self._fail(
                task, FailureKind.DEPENDS_ON_FAILED, f"needs {broken[0]}, which failed", commands
            )
            return
        for dependency in task.missing:
            self._dependents.setdefault(dependency, []).append(new.key)
        if not task.missing:
            self._make_ready(task)

    def _make_ready(self, task: TaskState, *, first: bool = False) -> None:
        task.move(Status.READY)
        (self._ready.appendleft if first else self._ready.append)(task.open.key)

    def _complete(self, key: str, commands: list[Command]) -> None:
        task = self._tasks.get(key)
        if task is None:
            return
        task.move(Status.DONE)
        del self._tasks[key]
        self.done += 1
        self._breaker.completed()
        commands.append(Complete(key))
        for dependent in self._dependents.pop(key, ()):
            waiting = self._tasks.get(dependent)
            if waiting is not None:
                waiting.missing.discard(key)
                if not waiting.missing and waiting.status is Status.WAITING:
                    self._make_ready(waiting)

    def _fail(
        self,
        task: TaskState,
        kind: FailureKind,
        reason: str,
        commands: list[Command],
        details: str = "",
    ) -> None:
        """Fail a task and all tasks that depend on it."""
        key = task.open.key
        task.move(Status.FAILED)
        del self._tasks[key]
        self.failed[key] = kind
        failure = Failed(key, kind, reason, details)
        commands.append(Fail(failure, kind not in NOT_LASTING))
        if why := self._breaker.failed(failure):
            self._give_up(GiveUp(why, curable=False), commands)
        for dependent in self._dependents.pop(key, ()):
            waiting = self._tasks.get(dependent)
            if waiting is not None:
                self._fail(
                    waiting, FailureKind.DEPENDS_ON_FAILED, f"needs {key}, which failed", commands
                )

    def _give_up(self, command: GiveUp, commands: list[Command]) -> None:
        self.stopping = self.gave_up = True
        commands.append(command)

    # Workers that are lost.

    def _lose(self, event: WorkerLost, commands: list[Command]) -> None:
        """Return the tasks of a lost worker; only its first pack was running and may be the cause."""
        packs = self._workers.leave(event.worker)
        for position, pack in reversed([*enumerate(packs)]):  # so that they keep their order
            left = [key for key in pack if key not in event.done]
            for key in pack:
                if key in event.done:
                    self._complete(key, commands)
            for key in reversed(left):
                task = self._running(key, f"lost with {event.worker}: {event.how.value}")
                if position == 0 and event.how is not Loss.PREEMPTED:
                    self._blame(task, len(left) == 1, event, commands)
                if key in self._tasks:
                    self._make_ready(task, first=True)

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
            self._fail(task, FailureKind.KILLS_ITS_WORKER, reason, commands)

    # Results.

    def _finish(self, event: PackFinished, now: float, commands: list[Command]) -> None:
        if not self._workers.packs(event.worker):
            return  # the worker counts as lost, and its tasks were returned
        pack = self._workers.pop(event.worker)
        first = self._tasks.get(pack[0])
        self._sizes.learn(first.open.kind if first else "", len(pack), event.seconds)
        answered = {result.key for result in event.results}
        for key in set(pack) - answered:
            raise IllegalTransition(f"{event.worker} returned a pack without {key}")
        broken: list[Failed] = []
        for result in event.results:
            if not isinstance(result, Failed):
                self._outage.answered()
                self._faults.completed(event.worker)
                self._complete(result.key, commands)
                continue
            task = self._running(result.key, f"{result.kind.value}: {result.reason}")
            match result.kind:
                case FailureKind.STORE | FailureKind.DISK_FULL:
                    self._wait_for_store(task, result, now, commands)
                case FailureKind.OUT_OF_MEMORY if len(pack) > 1:
                    task.alone = True
                    self._make_ready(task, first=True)
                case FailureKind.WORKER:
                    broken.append(result)
                case _ if self.gave_up:  # it would fail like the tasks before it
                    self._make_ready(task)
                case _:
                    self._fail(task, result.kind, result.reason, commands, result.details)
        if broken:
            self._replace(event.worker, broken, commands)

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
                self._fail(task, FailureKind.KILLS_ITS_WORKER, reason, commands, failure.details)
            else:
                self._make_ready(task)
        for pack in reversed(self._workers.leave(worker)):
            for key in reversed(pack):
                task = self._running(key, f"queued on {worker}, which broke")
                self._make_ready(task, first=True)
        drain = self._faults.is_beyond_repair(worker)
        commands.append(Replace(worker, broken[0].reason, drain))
        if not drain:
            self._restarting.add(worker)
        elif not self._workers and not self._restarting:
            why = f"No worker can run tasks ({broken[0].reason}). Remove the cause."
            self._give_up(GiveUp(why, curable=False), commands)

    def _wait_for_store(
        self, task: TaskState, result: Failed, now: float, commands: list[Command]
    ) -> None:
        pause = self._outage.failed(now)
        if self._outage.is_hopeless(now):
            self._give_up(GiveUp(result.reason), commands)
        task.move(Status.PAUSED)
        task.not_before = now + pause
        self._paused.append(task.open.key)

    def _wake(self, now: float) -> None:
        still = []
        for key in self._paused:
            task = self._tasks[key]
            if task.not_before <= now:
                self._make_ready(task)
            else:
                still.append(key)
        self._paused = still

    def _running(self, key: str, event: str) -> TaskState:
        task = self._tasks.get(key)
        if task is None:
            raise IllegalTransition(f"{key} is not open and yet: {event}")
        task.history.append(event)
        if task.status is not Status.RUNNING:
            raise task.illegal(event)
        return task

    # Handing out.

    def _hand_out(self, commands: list[Command]) -> None:
        if self.stopping:
            return
        for load in (0, 1):  # every idle worker first, then those that hold one pack
            for worker in self._workers.with_load(load):
                if not self._ready:
                    return
                self._bring_forward(worker)
                kind = self._tasks[self._ready[0]].open.kind
                size = self._pack_size(kind)
                if load and self._sizes.depth(kind, size) == 1:
                    return
                pack = self._take(worker, kind, size)
                if pack:
                    self._workers.push(worker, pack)
                    commands.append(Run(worker, pack))

    def _retire(self, now: float, commands: list[Command]) -> None:
        """Retire idle workers beyond the tasks that are not handed out yet; one worker always stays."""
        idle = self._workers.idle_for(self.policy.idle_seconds, now)
        to_come = 0 if self.stopping else len(self._tasks) - self.running
        spare = min(self._workers.idle - to_come, len(self._workers) - 1)
        for worker in idle[: max(0, spare)]:
            self._workers.leave(worker)
            commands.append(Retire(worker))

    def _pack_size(self, kind: str) -> int:
        return self._sizes.size(
            kind,
            ready=len(self._ready),
            workers=len(self._workers),
            idle=self._workers.idle,
            together=kind == OptimizePath.__name__,
        )

    def _suits(self, key: str, worker: str) -> bool:
        """Whether a task may go to a worker: not to one that broke under it, as long as there are others."""
        broke = self._tasks[key].broke
        return worker not in broke or self._workers.are_all_in(broke)

    def _bring_forward(self, worker: str) -> None:
        """Move tasks that do not suit the worker behind the first one that does."""
        for _ in range(len(self._ready)):
            if self._suits(self._ready[0], worker):
                return
            self._ready.rotate(-1)

    def _take(self, worker: str, kind: str, size: int) -> tuple[str, ...]:
        pack = tuple(self._pack(worker, kind, size))
        for key in pack:
            self._ready.popleft()
            self._tasks[key].move(Status.RUNNING)
        return pack

    def _pack(self, worker: str, kind: str, size: int) -> Iterator[str]:
        for position, key in enumerate(islice(self._ready, size)):
            task = self._tasks[key]
            apart = position > 0 and task.alone
            if task.open.kind != kind or apart or not self._suits(key, worker):
                return
            yield key
            if task.alone:
                return
