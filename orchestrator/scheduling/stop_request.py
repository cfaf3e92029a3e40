"""`toscore stop`: request that the driver of a run finishes its running tasks and ends.

The request is one object in the run's store, so it reaches a driver on any machine without a network port. It
holds the lease term of the driver, so a request that is left over does not stop a later driver.
"""

import contextlib
import json
import threading

from orchestrator.run_file.errors import UserError
from orchestrator.scheduling.holder import Holder, UnreadableLease, is_gone
from workers.storage.object_names import LEASE, STOP
from workers.storage.objects import NotFound, NotWritable, Objects, StoreFull, StoreUnreachable

LOOK_SECONDS = 2.0
"""Seconds between two reads of the stop request; each read is one small request to the store."""


def ask_to_stop(objects: Objects) -> Holder:
    """Write a stop request for the present driver into the store.

    Returns:
        The holder of the lease, to which the request is addressed.

    Raises:
        UserError: no driver runs the run, or its lease cannot be read.
    """
    try:
        holder = Holder.decode(objects.get(LEASE))
    except NotFound:
        raise UserError(f"No driver runs {objects.url}, so there is nothing to stop.") from None
    except UnreadableLease as error:
        raise UserError(
            f"The driver of {objects.url} is unknown, because its {LEASE} cannot be read ({error}); "
            "`toscore run` replaces it if no driver is running."
        ) from None
    if holder.released or is_gone(holder):
        raise UserError(
            f"No driver runs {objects.url}: the last one, {holder.described}, has ended."
        )
    objects.put(STOP, json.dumps({"lease_term": holder.term}).encode())
    return holder


def is_asked_to_stop(objects: Objects, lease_term: int) -> bool:
    """Whether the store holds a stop request for the driver with this lease term."""
    try:
        return bool(json.loads(objects.get(STOP)).get("lease_term") == lease_term)
    except (NotFound, ValueError, AttributeError):
        return False


class StopWatch:
    """Polls the store for a stop request on its own thread, so that a slow store delays nothing else."""

    def __init__(self, objects: Objects, lease_term: int) -> None:
        self._objects, self._lease_term = objects, lease_term
        self._asked = threading.Event()
        self._closing = threading.Event()
        threading.Thread(target=self._look, name="stop", daemon=True).start()

    @property
    def asked(self) -> bool:
        """Whether a stop request for this driver was read."""
        return self._asked.is_set()

    def close(self) -> None:
        """Tell the thread to end, and delete the request if this driver has followed it."""
        self._closing.set()
        if self.asked:
            with contextlib.suppress(StoreUnreachable, StoreFull, NotWritable):
                self._objects.delete(STOP)

    def _look(self) -> None:
        while not self._closing.wait(LOOK_SECONDS):
            with contextlib.suppress(StoreUnreachable, NotWritable):
                if is_asked_to_stop(self._objects, self._lease_term):
                    self._asked.set()
                    return
