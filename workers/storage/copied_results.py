"""Copy results of another run into the store of this one."""

from dataclasses import replace

from workers.storage.immutable_objects import Damaged, ImmutableObjects
from workers.storage.objects import NotFound
from workers.storage.record_files import to_records
from workers.storage.run_store import Store
from workers.storage.schema import KINDS, ResultRecord


def copy_results(
    store: Store, other: Store, collection: str, keys: frozenset[str], *, term: int
) -> int:
    """Copy the results of some tasks: first their objects, then their records.

    Args:
        store: the destination.
        other: the source.
        collection: of the records.
        keys: of the tasks; those that are not complete in `other` are ignored.
        term: of the lease that is held on `store`.

    Returns:
        The number of copied results. Results with a damaged or missing object are not copied.

    Raises:
        Fenced: another driver has taken the run of `store` over.
    """
    published, sound = ImmutableObjects(other.objects), list[ResultRecord]()
    for record in to_records(other.table(collection), KINDS[collection]):
        if record.key not in keys:
            continue
        if record.object is not None:
            try:
                data = published.read(record.object, lambda data: data)
            except (Damaged, NotFound):
                continue
            store.objects.put(record.object, data)
        sound.append(replace(record, lease_term=term))
    if sound:
        store.publish_records(sound, term=term)
    return len(sound)
