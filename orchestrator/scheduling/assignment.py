"""Assigns packs of ready tasks, and second copies of slow tasks, to workers."""

from collections.abc import Iterator

from orchestrator.scheduling.messages import Run
from orchestrator.scheduling.open_tasks import OpenTasks
from orchestrator.scheduling.policy import PackSizes, Policy
from orchestrator.scheduling.stragglers import Stragglers
from orchestrator.scheduling.task_states import TaskState
from orchestrator.scheduling.worker_queues import WorkerQueues
from workers.tasks.path_tasks import OptimizePath


class Assignment:
    """Assigns tasks to workers, and updates the queue of ready tasks and the queues of the workers.

    Attributes:
        sizes: chooses the number of tasks in a pack from the durations of earlier tasks.
        stragglers: decides which running task gets a second copy.
    """

    def __init__(self, policy: Policy, tasks: OpenTasks, workers: WorkerQueues) -> None:
        self._tasks, self._workers = tasks, workers
        self.sizes, self.stragglers = PackSizes(policy), Stragglers(policy)

    def hand_out(self, now: float) -> Iterator[Run]:
        """Yield commands that send packs of ready tasks to idle workers, then to those with one pack."""
        for load in (0, 1):
            for worker in self._workers.with_load(load):
                if not self._tasks.ready:
                    return
                self._bring_forward(worker)
                kind = self._tasks.next.open.kind
                size = self._pack_size(kind)
                if load and self.sizes.depth(kind, size) == 1:
                    return
                pack = tuple(self._pack(worker, kind, size))
                if pack:
                    self._tasks.start(len(pack), worker)
                    self._workers.push(worker, pack, now)
                    yield Run(worker, pack)

    def copy_stragglers(self, now: float) -> Iterator[Run]:
        """Yield commands that send a copy of each straggler to an idle worker; none while a task is ready.

        Only a task that is alone on its worker is copied, and it has at most one copy at a time.
        """
        if self._tasks.ready or not self._workers.idle:
            return
        for worker, key, began in self._workers.single_tasks():
            task = self._tasks[key]
            if len(task.workers) > 1 or not self.stragglers.is_one(task.open.kind, now - began):
                continue
            idle = self._workers.with_load(0)
            if not idle:
                return
            other = next((other for other in idle if self._suits(task, other)), None)
            if other is None:
                continue
            task.history.append(f"copied from {worker} to {other}")
            task.workers.add(other)
            self._workers.push(other, (key,), now)
            yield Run(other, (key,))

    def _pack_size(self, kind: str) -> int:
        return self.sizes.size(
            kind,
            ready=self._tasks.ready,
            workers=len(self._workers),
            idle=self._workers.idle,
            together=kind == OptimizePath.__name__,
        )

    def _suits(self, task: TaskState, worker: str) -> bool:
        """Whether a task may go to a worker: not to one that it broke before, if there are others."""
        return worker not in task.broke or self._workers.are_all_in(task.broke)

    def _bring_forward(self, worker: str) -> None:
        """Move tasks from the head of the queue to its end until the head suits the worker."""
        for _ in range(self._tasks.ready):
            if self._suits(self._tasks.next, worker):
                return
            self._tasks.defer()

    def _pack(self, worker: str, kind: str, size: int) -> Iterator[str]:
        """Keys of the tasks at the head of the queue that can go into one pack."""
        for position, task in enumerate(self._tasks.head(size)):
            apart = position > 0 and task.alone
            if task.open.kind != kind or apart or not self._suits(task, worker):
                return
            yield task.open.key
            if task.alone:
                return
