"""The key `reuse` of a run file: copy results of other runs into the store of this run.

The key of a task is a hash of everything that its result depends on, so results with equal keys are equal.
The objects are copied, not linked, so that each run can be moved, verified and deleted independently.
"""

from collections.abc import Iterable

from orchestrator.planning.plan import Plan
from orchestrator.planning.saddle_refinement import saddle_task
from orchestrator.run_file.errors import BadRunFile
from orchestrator.runs.stored_run import location_of
from workers.storage.copied_results import copy_results
from workers.storage.objects import NotWritable, StoreUnreachable
from workers.storage.open_objects import open_objects
from workers.storage.run_store import Store
from workers.storage.schema import KINDS, PairRecord, SaddleRecord

AT_ONCE = 1000
"""Records copied into one segment: an interruption loses at most the copy of one segment."""


def sources(locations: Iterable[str]) -> list[Store]:
    """Open the stores of other runs.

    Args:
        locations: folders, URLs or run files.

    Raises:
        BadRunFile: a location holds no run, or its store cannot be reached.
    """
    stores = []
    for location in locations:
        try:
            store = Store(open_objects(location_of(location)))
            started = store.latest_config() is not None
        except (NotWritable, StoreUnreachable) as error:
            raise BadRunFile(f"reuse: {error}") from None
        if not started:
            raise BadRunFile(
                f"reuse names {location}, which holds no run: give the folder or URL of one"
            )
        stores.append(store)
    return stores


def reuse(plan: Plan, store: Store, others: Iterable[Store], term: int) -> int:
    """Copy the results that a plan asks for, its store lacks and another run has; returns their number.

    Args:
        plan: the plan of this run.
        store: the store of this run.
        others: the stores to copy from; an earlier store takes precedence.
        term: lease term of this driver.
    """
    simplices = (
        task.key for dimension in plan.simplex_dimensions for task in plan.simplices(dimension)
    )
    wanted = {
        "minima": set(plan.minimum_keys),
        "pairs": set(plan.path_keys()),
        "simplices": set(simplices),
    }
    copied = 0
    for other in others:
        for collection in KINDS:
            missing = wanted.get(collection, set()) - store.completed(collection)
            keys = sorted(missing & other.completed(collection)) if missing else []
            if collection == SaddleRecord.collection:
                keys = _saddles(plan, store, other, wanted["pairs"])
            for start in range(0, len(keys), AT_ONCE):
                part = frozenset(keys[start : start + AT_ONCE])
                copied += copy_results(store, other, collection, part, term=term)
    return copied


def _saddles(plan: Plan, store: Store, other: Store, paths: set[str]) -> list[str]:
    """Keys of the saddle results of another run that the plan asks for and the store lacks.

    Args:
        plan: the plan of this run.
        store: the store of this run.
        other: the store to copy from.
        paths: keys of the paths of the plan.
    """
    if not plan.refines_saddles:
        return []
    done = store.completed(SaddleRecord.collection)
    number = {key: index for index, key in enumerate(plan.minimum_keys)}
    there = other.completed(SaddleRecord.collection) - done
    ends = {
        record.key: (number[record.a], number[record.b])
        for record in other.records(PairRecord, lists=False)
        if record.key in paths
    }
    return sorted(
        record.key
        for record in other.records(SaddleRecord, lists=False)
        if record.key in there
        and record.path in ends
        and saddle_task(plan, ends[record.path], record.path).key == record.key
    )
