"""Maintenance of a store: few segments, no idle checkpoints, and only the paths that are to be kept."""

import contextlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import compress

from orchestrator.analysis.landscape import Landscape
from orchestrator.planning.plan import Plan
from workers.storage.objects import StoreFull, StoreUnreachable
from workers.storage.run_store import Store
from workers.storage.schema import KINDS, PairRecord

SEGMENTS = 256
"""Number of segments of one kind above which they are copied into few."""

AT_ONCE = 10_000
"""Records that are written into one segment."""


def compact(store: Store, term: int) -> None:
    """Copy many segments into few where there are many.

    Args:
        store: of the run.
        term: of the lease that is held.

    Raises:
        Fenced: another driver has taken the run over.
    """
    for collection in KINDS:
        if store.segment_count(collection) > SEGMENTS:
            store.compact(collection, term=term)


class Compaction:
    """Compaction on a thread of its own, so that the driver hands out tasks meanwhile.

    Args:
        store: of the run.
        term: of the lease that is held.
    """

    def __init__(self, store: Store, term: int) -> None:
        self._store, self._term = store, term
        self._pool = ThreadPoolExecutor(1, "compaction")
        self._running: Future[None] | None = None

    def start(self) -> None:
        """Begin unless it is under way.

        Raises:
            Fenced: the one before met the commit of another driver.
        """
        if self._running is not None:
            if not self._running.done():
                return
            self._running.result()
        self._running = self._pool.submit(self._compact)

    def close(self) -> None:
        """Wait until it has ended."""
        self._pool.shutdown(cancel_futures=True)

    def _compact(self) -> None:
        with contextlib.suppress(StoreUnreachable, StoreFull):  # the next one tries again
            compact(self._store, self._term)


def drop_idle_checkpoints(plan: Plan, store: Store) -> None:
    """Delete checkpoints that a worker left because it was killed after it had published a result.

    Between rungs the state from which a path continues is kept under its lineage; it is idle once the path of
    the last rung is complete.
    """
    kept = store.checkpointed()
    if not kept:
        return
    idle = {key for kind in KINDS for key in compress(kept, store.are_complete(kind, kept))}
    if len(plan.rungs) > 1:
        whole = store.are_complete("pairs", map(plan.pair_key, plan.pairs()))
        idle.update(plan.path(pair).lineage for pair in compress(plan.pairs(), whole))
    for name in idle.intersection(kept):
        store.drop_checkpoints(name)


def prune(
    plan: Plan, landscape: Landscape, store: Store, term: int, confirm: Callable[[], None]
) -> int:
    """For `keep_paths: bars`, delete the points of paths that hold up no bar; returns their number.

    Records without these objects are committed before the objects are deleted, so a path stays complete
    wherever this is interrupted.
    """
    if plan.run.keep_paths != "bars" or not landscape.complete:
        return 0
    saddles = {bar.saddle for bars in landscape.barcodes.values() for bar in bars.bars}
    records = store.records(PairRecord)
    kept = {record.key for pair, record in landscape.passes.items() if pair in saddles}
    idle = {r.object for r in records if r.object is not None and r.key not in kept}
    if idle:
        parts = (records[start : start + AT_ONCE] for start in range(0, len(records), AT_ONCE))
        without = ([replace(r, object=None) if r.object in idle else r for r in p] for p in parts)
        store.rewrite(PairRecord.collection, without, term=term)
        confirm()
        store.delete_objects(idle)
    return len(idle)
