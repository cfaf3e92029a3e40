"""Commits the records that workers have published: one commit per iteration of the driver's loop."""

from collections.abc import Mapping, Sequence

from orchestrator.scheduling.executor import ExecutorEvent
from orchestrator.scheduling.messages import PackFinished
from workers.storage.run_store import Store
from workers.tasks.results import Done


def commit_results(
    store: Store, happened: Sequence[ExecutorEvent], lost: Sequence[str], term: int
) -> Mapping[str, str | None]:
    """Commit the records that workers have returned, or have published before they were lost.

    All finished packs together cost one commit. All lost workers together cost one listing of the segments,
    and one request for each segment that they had published.

    Args:
        store: of the run.
        happened: the events of one call of `Executor.poll`.
        lost: workers that were lost while they held packs.
        term: of the lease that this driver holds.

    Returns:
        Name of the object of each task that a lost worker had completed, by key.

    Raises:
        Fenced: another driver has taken the run over.
    """
    results = [r for event in happened if isinstance(event, PackFinished) for r in event.results]
    segments = [r.segment for r in results if isinstance(r, Done) and r.segment is not None]
    if segments:
        store.commit(segments, term=term)
    return store.adopt_segments(lost, term=term) if lost else {}
