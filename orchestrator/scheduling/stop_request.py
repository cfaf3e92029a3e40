"""`toscore stop`: ask the driver of a run, wherever it is, to finish what runs and leave.

The wish is one object in the run's store, so it reaches a driver on any machine, through no port. It
names the lease that it is meant for: a wish that its driver did not live to see stops no later one.
"""

import contextlib
import json
import threading

from orchestrator.run_file.errors import UserError
from orchestrator.scheduling.lease import Holder, is_gone
from workers.storage.object_names import LEASE, STOP
from workers.storage.objects import NotFound, NotWritable, Objects, StoreFull, StoreUnreachable

LOOK_SECONDS = 2.0
"""How often a driver looks whether it was asked to stop."""


def ask_to_stop(objects: Objects) -> Holder:
    """Write down that the present driver shall stop.

    Returns:
        Who was asked.

    Raises:
        UserError: nobody runs the run.
    """
    try:
        holder = Holder.decode(objects.get(LEASE))
    except NotFound:
        raise UserError(f"Nobody runs {objects.url}: there is nothing to stop.") from None
    if holder.released or is_gone(holder):
        raise UserError(
            f"Nobody runs {objects.url}: its last driver, {holder.described}, has left."
        )
    objects.put(STOP, json.dumps({"lease_epoch": holder.epoch}).encode())
    return holder


def is_asked_to_stop(objects: Objects, lease_epoch: int) -> bool:
    """Whether somebody wants the driver with this lease to stop."""
    try:
        return bool(json.loads(objects.get(STOP)).get("lease_epoch") == lease_epoch)
    except (NotFound, ValueError, AttributeError):
        return False


class StopWatch:
    """Looks for the wish on a thread of its own, so that a slow store does not hold up the loop."""

    def __init__(self, objects: Objects, lease_epoch: int) -> None:
        self._objects, self._lease_epoch = objects, lease_epoch
        self._asked = threading.Event()
        self._closing = threading.Event()
        threading.Thread(target=self._look, name="stop", daemon=True).start()

    @property
    def asked(self) -> bool:
        return self._asked.is_set()

    def close(self) -> None:
        """Stop looking, and remove the wish that was fulfilled."""
        self._closing.set()
        if self.asked:
            with contextlib.suppress(StoreUnreachable, StoreFull, NotWritable):
                self._objects.delete(STOP)

    def _look(self) -> None:
        while not self._closing.wait(LOOK_SECONDS):
            with contextlib.suppress(StoreUnreachable, NotWritable):
                if is_asked_to_stop(self._objects, self._lease_epoch):
                    self._asked.set()
                    return
