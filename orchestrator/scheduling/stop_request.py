"""`toscore stop`: ask the driver of a run, wherever it is, to finish its running tasks and leave.

The request is one object in the run's store, so it reaches a driver on any machine, without a port. It
names the lease term that it is meant for: a request that outlives its driver stops no later one.
"""

import contextlib
import json
import threading

from orchestrator.run_file.errors import UserError
from orchestrator.scheduling.holder import Holder, UnreadableLease, is_gone
from workers.storage.object_names import LEASE, STOP
from workers.storage.objects import NotFound, NotWritable, Objects, StoreFull, StoreUnreachable

LOOK_SECONDS = 2.0
"""How often a driver looks whether it was asked to stop: one small request each."""


def ask_to_stop(objects: Objects) -> Holder:
    """Write down that the present driver shall stop.

    Returns:
        Who was asked.

    Raises:
        UserError: nobody runs the run, or its lease cannot be read.
    """
    try:
        holder = Holder.decode(objects.get(LEASE))
    except NotFound:
        raise UserError(f"Nobody runs {objects.url}: there is nothing to stop.") from None
    except UnreadableLease as error:
        raise UserError(
            f"Who runs {objects.url} is unknown, since its {LEASE} cannot be read ({error}): `toscore "
            "run` replaces it if no driver is alive."
        ) from None
    if holder.released or is_gone(holder):
        raise UserError(
            f"Nobody runs {objects.url}: its last driver, {holder.described}, has left."
        )
    objects.put(STOP, json.dumps({"lease_term": holder.term}).encode())
    return holder


def is_asked_to_stop(objects: Objects, lease_term: int) -> bool:
    """Whether somebody wants the driver with this lease term to stop."""
    try:
        return bool(json.loads(objects.get(STOP)).get("lease_term") == lease_term)
    except (NotFound, ValueError, AttributeError):
        return False


class StopWatch:
    """Looks for the request on a thread of its own, so that a slow store does not delay the loop."""

    def __init__(self, objects: Objects, lease_term: int) -> None:
        self._objects, self._lease_term = objects, lease_term
        self._asked = threading.Event()
        self._closing = threading.Event()
        threading.Thread(target=self._look, name="stop", daemon=True).start()

    @property
    def asked(self) -> bool:
        return self._asked.is_set()

    def close(self) -> None:
        """Stop looking, and remove the request that was fulfilled."""
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
