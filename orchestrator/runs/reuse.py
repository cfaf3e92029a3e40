"""`reuse:` results of other runs with equal keys are copied to the store of this run.

A key is a hash of everything that a result depends on, so an equal key means an equal result. The objects are
copied and not linked, so that each run can be moved, checked and deleted on its own.
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
"""Records copied into one segment."""


def sources(locations: Iterable[str]) -> list[Store]:
    """The stores of other runs.

    Args:
        locations: folders, URLs or run files.

    Raises:
        BadRunFile: there is no run at one of them.
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
    """Copy the results that this plan asks for and another run has; returns their number.

    Args:
        plan: of this run.
        store: of this run.
        others: of the runs to copy from, the first before the next.
        term: of the lease that is held on this run.
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
    """Keys of the saddles of the other run that this plan asks for: those of its paths."""
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
