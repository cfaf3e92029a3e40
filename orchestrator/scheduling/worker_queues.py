"""The queue of packs (tasks sent together) of each worker; the first pack of a queue is the running one."""

from collections import deque
from collections.abc import Iterator

Pack = tuple[str, ...]


class WorkerQueues:
    """The queue of each worker, with an index of the workers that hold 0 packs and of those that hold 1.

    The index saves a search through all workers at every event.
    """

    def __init__(self) -> None:
        self._queues: dict[str, deque[Pack]] = {}
        self._by_load: tuple[dict[str, None], dict[str, None]] = ({}, {})
        """Workers without a pack, and workers with one."""
        self._idle_since: dict[str, float] = {}
        self._began: dict[str, float] = {}
        """Time in seconds at which each worker began the pack that it runs."""

    def __len__(self) -> int:
        return len(self._queues)

    def __iter__(self) -> Iterator[str]:
        return iter(self._queues)

    def __contains__(self, worker: str) -> bool:
        return worker in self._queues

    @property
    def idle(self) -> int:
        """Number of workers without a pack."""
        return len(self._by_load[0])

    def with_load(self, packs: int) -> list[str]:
        """Workers that hold 0 or 1 packs, in the order in which they reached that number."""
        return list(self._by_load[packs])

    def are_all_in(self, workers: set[str]) -> bool:
        """Whether every worker that has joined is one of `workers`."""
        return self._queues.keys() <= workers

    def packs(self, worker: str) -> tuple[Pack, ...]:
        """The packs of a worker; none if there is no such worker."""
        return tuple(self._queues.get(worker, ()))

    def tasks(self) -> Iterator[str]:
        """Keys of all tasks that some worker holds; a task with a copy occurs twice."""
        return (key for queue in self._queues.values() for pack in queue for key in pack)

    def single_tasks(self) -> list[tuple[str, str, float]]:
        """(worker, key, start time) for each worker that holds exactly one task, longest running first."""
        single = [
            (worker, queue[0][0], self._began[worker])
            for worker, queue in self._queues.items()
            if len(queue) == 1 and len(queue[0]) == 1
        ]
        return sorted(single, key=lambda entry: entry[2])

    def join(self, worker: str) -> None:
        """Add a worker, with an empty queue."""
        self._queues[worker] = deque()
        self._sort_in(worker)

    def leave(self, worker: str) -> tuple[Pack, ...]:
        """Remove a worker, and return its packs."""
        packs = self._queues.pop(worker, deque())
        self._sort_in(worker)
        return tuple(packs)

    def push(self, worker: str, pack: Pack, now: float) -> None:
        """Append a pack to the queue of a worker; `now` is in seconds."""
        if not self._queues[worker]:
            self._began[worker] = now
        self._queues[worker].append(pack)
        self._sort_in(worker)

    def pop(self, worker: str, now: float) -> Pack:
        """Remove and return the oldest pack of a worker, which begins its next one at `now`, in seconds."""
        self._began[worker] = now
        pack = self._queues[worker].popleft()
        self._sort_in(worker)
        return pack

    def idle_for(self, seconds: float, now: float) -> list[str]:
        """Workers that every call for longer than `seconds` has seen idle, the longest idle first."""
        self._idle_since = {w: self._idle_since.get(w, now) for w in self._by_load[0]}
        longest = sorted(self._idle_since, key=self._idle_since.__getitem__)
        return [worker for worker in longest if now - self._idle_since[worker] > seconds]

    def is_sound(self) -> bool:
        """Whether the index by number of packs agrees with the queues."""
        return all(
            workers.keys() == {w for w, queue in self._queues.items() if len(queue) == load}
            for load, workers in enumerate(self._by_load)
        )

    def _sort_in(self, worker: str) -> None:
        queue = self._queues.get(worker)
        for load, workers in enumerate(self._by_load):
            if queue is not None and len(queue) == load:
                workers[worker] = None
            else:
                workers.pop(worker, None)
