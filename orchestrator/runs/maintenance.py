"""Maintenance of a store: merge segments, delete checkpoints and path points that are not needed."""

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
"""Number of segments of one kind of record above which they are compacted: a reader opens each segment, and
on an object store each is a request."""

AT_ONCE = 10_000
"""Records written into one segment, to bound the size of an object."""


def compact(store: Store, term: int) -> None:
    """Compact each kind of record that has more than `SEGMENTS` segments.

    Args:
        store: the store of the run.
        term: lease term of this driver.

    Raises:
        Fenced: another driver has taken the run over.
    """
    for collection in KINDS:
        if store.segment_count(collection) > SEGMENTS:
            store.compact(collection, term=term)


class Compaction:
    """Runs `compact` on a background thread, so that the driver can assign tasks meanwhile.

    Args:
        store: the store of the run.
        term: lease term of this driver.
    """

    def __init__(self, store: Store, term: int) -> None:
        self._store, self._term = store, term
        self._pool = ThreadPoolExecutor(1, "compaction")
        self._running: Future[None] | None = None

    def start(self) -> None:
        """Start a compaction unless one is running.

        Raises:
            Fenced: another driver had taken the run over when the previous compaction ran.
        """
        if self._running is not None:
            if not self._running.done():
                return
            self._running.result()
        self._running = self._pool.submit(self._compact)

    def close(self) -> None:
        """Wait for the running compaction to end."""
        self._pool.shutdown(cancel_futures=True)

    def _compact(self) -> None:
        with contextlib.suppress(StoreUnreachable, StoreFull):  # the next compaction tries again
            compact(self._store, self._term)


def drop_idle_checkpoints(plan: Plan, store: Store) -> None:
    """Delete the checkpoints of tasks whose result is complete.

    Such a checkpoint is left by a worker that was killed between publishing the result and deleting the
    checkpoint. Between rungs, the state from which a path continues is stored under the lineage of the path;
    it is deleted once the path of the last rung is complete.
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
    """For `keep_paths: bars`, delete the stored points of paths that end no bar.

    The records are rewritten without the names of these objects before the objects are deleted, so that an
    interruption leaves no record that names a deleted object.

    Args:
        plan: the plan of the run.
        landscape: the results of the run; nothing is deleted before they are complete.
        store: the store of the run.
        term: lease term of this driver.
        confirm: raises if this driver no longer holds the lease; called before the objects are deleted.

    Returns:
        The number of objects deleted.

    Raises:
        Fenced: another driver has taken the run over.
        LeaseInDoubt: `confirm` could not renew the lease in time; nothing was deleted.
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
