"""Keeping a store small: few segments, and the paths that are asked to be kept."""

from collections.abc import Callable
from dataclasses import replace

from orchestrator.plan import Plan
from orchestrator.reduce import Landscape
from workers import layout
from workers.schema import KINDS, PairRecord
from workers.store import Store

SEGMENTS = 256
"""Segments of one kind from which copying them into few is worth the requests."""

AT_ONCE = 10_000
"""Records written anew in one segment."""


def compact(store: Store, epoch: int, confirm: Callable[[], None]) -> None:
    """Copy many segments into few where there are many.

    Args:
        store: of the run.
        epoch: of the lease that is held.
        confirm: raises if it was lost.
    """
    for collection in KINDS:
        folder = layout.records_folder(collection)
        if len(store.objects.list(folder)) > SEGMENTS:
            store.compact(collection, epoch=epoch, confirm=confirm)


def prune(
    plan: Plan, landscape: Landscape, store: Store, epoch: int, confirm: Callable[[], None]
) -> int:
    """For `keep_paths: bars`, let go of the points of paths that hold up no bar; how many.

    The record without an object is published before the object is deleted, so a path stays complete
    wherever this is interrupted.
    """
    if plan.run.keep_paths != "bars" or not landscape.complete:
        return 0
    saddles = {bar.saddle for bars in landscape.barcodes.values() for bar in bars.bars}
    records = store.records(PairRecord)
    kept = {record.key for pair, record in landscape.passes.items() if pair in saddles}
    idle = [record for record in records if record.object is not None and record.key not in kept]
    for start in range(0, len(idle), AT_ONCE):
        part = idle[start : start + AT_ONCE]
        store.publish_records([replace(record, object=None) for record in part], epoch=epoch)
        confirm()
        store.delete_objects(record.object for record in part if record.object)
    return len(idle)
