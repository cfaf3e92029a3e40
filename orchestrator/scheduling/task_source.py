"""The tasks of a plan that the store does not have as complete, in the order in which they are handed out.

Once all of them are complete, an adaptive pair rule, the discovery of minima and the refinement of saddles
may add further tasks.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import compress, islice
from operator import not_
from typing import Protocol, TypeVar

from orchestrator.pair_rules.rounds import Rounds
from orchestrator.planning.discovery import discovered
from orchestrator.planning.plan import Plan
from orchestrator.planning.saddle_refinement import most_saddles, saddles_of_store
from orchestrator.telemetry.events import RunStarted
from workers.storage.run_store import Store
from workers.storage.schema import KINDS
from workers.tasks.results import FailureKind
from workers.tasks.task import Task

Answer = TypeVar("Answer")


class Retry(Protocol):
    """Repeats a call while the store is unreachable."""

    def __call__(self, action: Callable[[], Answer], /) -> Answer: ...


class TaskSource:
    """Supplies the tasks of a run that remain to be done.

    Args:
        plan: the tasks of the run.
        store: of the run.
        failed: keys of the failed tasks; the scheduler updates this collection.
        retry: repeats a call to the store.
        announce: receives the numbers of tasks at the start, and again whenever they change.
    """

    def __init__(
        self,
        plan: Plan,
        store: Store,
        failed: Collection[str],
        retry: Retry,
        announce: Callable[[RunStarted], None],
    ) -> None:
        self._plan, self._store, self._failed = plan, store, failed
        self._retry, self._announce = retry, announce
        self._tasks: Iterator[Task] = iter(())
        # Names of the objects that tasks read, by key of the task that made them.
        self._objects: dict[str, str] = {}
        self._rounds: Rounds | None = None

    def resume(self) -> Mapping[str, FailureKind]:
        """Read from the store which tasks are complete, and prepare the others for `take`.

        Returns:
            The kind of each recorded failure, by key.
        """
        plan, store = self._plan, self._store
        have, simplices = self._remembered("minima"), self._remembered("simplices")
        if plan.reads_paths:
            self._remembered("pairs")
        if plan.run.minima.discover:  # tasks that descend from a saddle read its object
            self._remembered("saddles")
        done = store.are_complete("pairs", plan.path_keys())
        failures = store.failures()
        minima = set(plan.minimum_keys)
        self._started = RunStarted(
            plan.run.name,
            minima=len(minima),
            minima_done=len(minima & have),
            pairs=plan.pair_count * len(plan.rungs),
            pairs_done=sum(done),
            adaptive=plan.adaptive,
            simplices=sum(plan.simplex_count(d) for d in plan.simplex_dimensions),
            simplices_done=len(simplices),
            saddles=most_saddles(plan),
        )
        self._announce(self._started)
        # The paths of an adaptive rule come from `_next_round`.
        left = () if plan.adaptive else compress(plan.pairs(), map(not_, done))
        self._tasks = (
            task for task in plan.remaining(have | simplices, left) if task.key not in failures
        )
        return {key: FailureKind(failure["kind"]) for key, failure in failures.items()}

    def take(self, count: int) -> list[Task]:
        """The next `count` tasks, or fewer if no more are known for now."""
        return list(islice(self._tasks, count))

    def extend(self) -> bool:
        """Add further tasks, once all earlier ones are complete or failed; return False if there are none."""
        fresh = (
            self._retry(self._next_round)
            or self._retry(self._discovered)
            or self._retry(self._saddles)
        )
        self._tasks = iter(fresh)
        return bool(fresh)

    def with_objects(self, task: Task) -> Task:
        """The task with the names of the objects that it reads."""
        return task.with_objects(self._objects) if task.depends_on else task

    def remember(self, results: Mapping[str, str | None]) -> None:
        """Keep the names of the objects of completed tasks, by key, for the tasks that read them."""
        self._objects |= {key: name for key, name in results.items() if name is not None}

    def published(self, keys: Sequence[str]) -> frozenset[str]:
        """The subset of `keys` whose tasks are complete in the store.

        Only records are read. A worker publishes an object before its record, so the objects need not be
        listed, and the number of requests does not depend on the size of the run.
        """
        complete: set[str] = set()
        for kind in KINDS if keys else ():
            results = self._store.results(kind, keys, check_objects=False)
            if kind != "pairs" or self._plan.reads_paths:
                self.remember(results)
            complete |= results.keys()
        return frozenset(complete)

    def _remembered(self, collection: str) -> frozenset[str]:
        """Keys of the complete tasks of a collection; the names of their objects are kept."""
        results = self._store.results(collection)
        self.remember(results)
        return frozenset(results)

    def _next_round(self) -> list[Task]:
        """The paths of the next round of an adaptive rule; empty when the rule has ended."""
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
            lambda request: heights.get(plan.request_key(request, rounds)),
            lambda request: plan.request_key(request, rounds) in self._failed,
        )
        return [plan.requested_path(request, rounds) for request in rounds.waiting]

    def _saddles(self) -> list[Task]:
        """Tasks that follow the peaks of finished paths to saddles, if the run asks for them."""
        tasks = saddles_of_store(self._plan, self._store)
        settled = self.published([task.key for task in tasks]) | set(self._failed)
        fresh: list[Task] = [task for task in tasks if task.key not in settled]
        if fresh:
            self._started = replace(
                self._started, saddles=len(tasks), saddles_done=len(tasks) - len(fresh)
            )
            self._announce(self._started)
        return fresh

    def _discovered(self) -> list[Task]:
        """Tasks for newly discovered minima and their paths, if the run asks for them."""
        larger = discovered(self._plan, self._store)
        if larger == self._plan:
            return []
        self._plan, self._rounds = larger, None
        self._started = replace(
            self._started,
            minima=len(larger.minima),
            pairs=larger.pair_count * len(larger.rungs),
        )
        self._announce(self._started)
        tasks = list(larger.tasks())
        settled = self.published([t.key for t in tasks]) | set(self._failed)
        return [task for task in tasks if task.key not in settled]
