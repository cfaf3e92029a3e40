"""The tasks of a plan that are not complete in the store, in the order in which they are handed out.

An adaptive pair rule and the discovery of minima name further tasks once earlier ones are complete.
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
    """The tasks that remain.

    Args:
        plan: the tasks of the run.
        store: of the run.
        failed: keys of tasks that have failed, kept up to date by the scheduler.
        retry: repeats a call to the store.
        announce: receives the numbers of tasks, again whenever they change.
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
        """Read which tasks are complete in the store, and begin with the others.

        Returns:
            The recorded failures, by key.
        """
        plan, store = self._plan, self._store
        have, simplices = self._remembered("minima"), self._remembered("simplices")
        if plan.reads_paths:
            self._remembered("pairs")
        if plan.run.minima.discover:  # minima below saddles start from these
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
        # An adaptive rule names its paths itself, round by round.
        left = () if plan.adaptive else compress(plan.pairs(), map(not_, done))
        self._tasks = (
            task for task in plan.remaining(have | simplices, left) if task.key not in failures
        )
        return {key: FailureKind(failure["kind"]) for key, failure in failures.items()}

    def take(self, count: int) -> list[Task]:
        """The next tasks, fewer than `count` once the present ones are used up."""
        return list(islice(self._tasks, count))

    def extend(self) -> bool:
        """Add further tasks, once all earlier ones are complete or failed; false if there are none."""
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
        """Note the objects of completed tasks, by key, for the tasks that read them."""
        self._objects |= {key: name for key, name in results.items() if name is not None}

    def published(self, keys: Sequence[str]) -> frozenset[str]:
        """Those of the keys whose tasks are complete in the store.

        An object is published before its record, so objects are not listed: the number of requests does
        not depend on the size of the run.
        """
        complete: set[str] = set()
        for kind in KINDS:
            results = self._store.results(kind, keys, check_objects=False)
            if kind != "pairs" or self._plan.reads_paths:
                self.remember(results)
            complete |= results.keys()
        return frozenset(complete)

    def _remembered(self, collection: str) -> frozenset[str]:
        """Keys of the complete tasks of a collection, whose objects are noted."""
        results = self._store.results(collection)
        self.remember(results)
        return frozenset(results)

    def _next_round(self) -> list[Task]:
        """The paths of an adaptive rule's next round; none when the rule has come to its end."""
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
            lambda order: plan.order_key(order, rounds) in self._failed,
        )
        return [plan.ordered_path(order, rounds) for order in rounds.waiting]

    def _saddles(self) -> list[Task]:
        """Tasks that lead finished paths over saddles, if the run asks for them."""
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
        """Tasks for minima inside finished paths, if the run asks for them."""
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
