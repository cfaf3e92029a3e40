"""One driver a run: a lease in the store, numbered anew each time that it changes hands.

The lease is one small object. Taking it is a create-if-absent or a compare-and-swap, so of two drivers
exactly one succeeds. Its number, the epoch, is written into every segment; what a former holder still
publishes after it was fenced off is told by its lower epoch and passed over (`Store.fence`).

No clock is compared between machines. A holder counts beats; who wants the lease watches, and takes it
when the count stands still for longer than a beat may take. A holder on the same machine whose process
is gone is seen at once.
"""

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from workers.storage.object_names import LEASE
from workers.storage.objects import (
    AlreadyExists,
    Conflict,
    NotFound,
    Objects,
    StoreFull,
    StoreUnreachable,
)

BEAT_SECONDS = 2.0
STALE_SECONDS = 15.0
"""Beats that fail to come for so long mean that the holder is gone; it then stops by itself as well."""


class LeaseHeld(Exception):
    """Another driver runs this run; says who and since when."""


class Fenced(Exception):
    """Another driver took the run over."""


@dataclass(frozen=True)
class Holder:
    """The content of the lease object."""

    epoch: int
    host: str
    boot: str
    pid: int
    started: str
    token: str = ""
    """Drawn at random: after a lost answer it tells our lease from that of another."""
    beat: int = 0
    released: bool = False

    def encode(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, data: bytes) -> "Holder":
        return cls(**json.loads(data))

    @property
    def described(self) -> str:
        return f"process {self.pid} on {self.host} since {self.started}"


def _myself(epoch: int) -> Holder:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    token = secrets.token_hex(8)
    return Holder(epoch, socket.gethostname(), _boot(), os.getpid(), now, token)


def _boot() -> str:
    """Tells this machine, since its last boot, from every other."""
    with contextlib.suppress(OSError):
        namespace = os.readlink("/proc/self/ns/pid")
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + namespace
    return ""


def is_gone(holder: Holder) -> bool:
    """Whether the holder's process can be seen from here to have ended."""
    if not holder.boot or holder.boot != _boot():
        return False
    try:
        state = Path(f"/proc/{holder.pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state in "ZX"


class Lease:
    """A held lease; a thread keeps it beating until it is closed."""

    def __init__(self, objects: Objects, holder: Holder, version: str) -> None:
        self._objects, self._holder, self._version = objects, holder, version
        self._fenced = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._thread.start()

    @property
    def epoch(self) -> int:
        return self._holder.epoch

    @classmethod
    def acquire(
        cls,
        objects: Objects,
        *,
        stale: float = STALE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> "Lease":
        """Take the lease, from nobody or from a holder who is gone.

        Raises:
            LeaseHeld: the holder lives.
        """
        try:
            mine = _myself(1)
            return cls(objects, mine, objects.create(LEASE, mine.encode()))
        except AlreadyExists:
            pass
        seen, version = cls._read(objects)
        first, watched = seen, clock()
        while not (seen.released or is_gone(seen)):
            if seen.epoch != first.epoch or seen.beat != first.beat:
                raise LeaseHeld(
                    f"This run is being run by {seen.described}: wait for it, stop it with "
                    "`toscore stop`, or choose another name."
                )
            if clock() - watched > stale:
                break
            sleep(0.25)
            seen, version = cls._read(objects)
        mine = _myself(seen.epoch + 1)
        try:
            return cls(objects, mine, objects.swap(LEASE, mine.encode(), version))
        except Conflict:
            holder = cls._read(objects)[0]
            raise LeaseHeld(
                f"This run was just taken by {holder.described}: wait for it to end."
            ) from None

    @staticmethod
    def _read(objects: Objects) -> tuple[Holder, str]:
        data, version = objects.read_versioned(LEASE)
        return Holder.decode(data), version

    def renew(self) -> None:
        """See that the lease is still ours.

        Raises:
            Fenced: it is not.
        """
        if self._fenced:
            raise Fenced(
                "Another driver has taken this run over; this one has stopped writing to it."
            )

    def confirm(self) -> None:
        """Ask the store whether the lease is still ours, before something is deleted.

        Raises:
            Fenced: it is not.
        """
        self.renew()
        if self._read(self._objects)[0].token != self._holder.token:
            self._fenced = True
            self.renew()

    def close(self) -> None:
        """Let go, so that the next driver need not wait."""
        self._closing.set()
        self._thread.join()
        if not self._fenced:
            with contextlib.suppress(Conflict, NotFound, StoreUnreachable, StoreFull):
                last = replace(self._holder, released=True)
                self._objects.swap(LEASE, last.encode(), self._version)

    def _keep(self) -> None:
        while not self._closing.wait(BEAT_SECONDS):
            beaten = replace(self._holder, beat=self._holder.beat + 1)
            try:
                self._version = self._objects.swap(LEASE, beaten.encode(), self._version)
            except (Conflict, NotFound):
                self._fenced = True
                return
            except (StoreUnreachable, StoreFull):
                continue  # somebody may have taken it meanwhile: the next swap tells
            self._holder = beaten
