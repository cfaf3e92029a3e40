"""A lease in the store, so that a run has at most one driver; its term grows with each holder.

The lease is one small object. A driver takes it by a create-if-absent or a compare-and-swap, so of two
drivers exactly one succeeds. The term is written into every commit and every segment of records. A former
holder cannot commit any more, and segments of its workers are recognised by their lower term
(`Store.take_over`).

No clock is compared between machines. The holder increments a counter (the beat). A contender watches the
counter and takes the lease once it has not changed for `STALE_SECONDS`. A holder on the same machine whose
process has ended is recognised at once.

**Why `Lease.is_held` is never true in two drivers at once.** The holder notes the time `t`, and then writes
the beat that becomes its last successful one. A contender reads that beat at `t` or later, and waits for
`STALE_SECONDS` from then on. On the holder's clock `is_held` becomes false `STALE_SECONDS` after `t`,
whatever happens to later beats. If nobody has taken the lease meanwhile, the next beat that reaches the store
makes `is_held` true again: its compare-and-swap proves that nobody else has written in between.
"""

import contextlib
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256

from orchestrator.scheduling.holder import Holder, UnreadableLease, is_gone, this_process
from workers.storage.commit_log import highest_term
from workers.storage.object_names import LEASE
from workers.storage.objects import (
    AlreadyExists,
    Conflict,
    Fenced,
    NotFound,
    Objects,
    StoreUnreachable,
)

BEAT_SECONDS = 2.0
"""Seconds between two beats. Several fit into `STALE_SECONDS`, so that one slow request does no harm."""
STALE_SECONDS = 15.0
"""A holder without a beat for this long counts as gone, and stops acting as the holder itself."""
_WATCH_SECONDS = 0.25
"""Seconds between two reads of the lease by a contender."""


class LeaseHeld(Exception):
    """Another driver holds the lease of this run; the message names its process and start."""


class LeaseInDoubt(StoreUnreachable):
    """The lease could not be renewed for the stale time; the next successful beat makes it valid again."""


def boot_clock() -> float:
    """Seconds since boot; unlike `time.monotonic`, it counts while the machine is suspended."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class Lease:
    """A lease that this process has taken.

    Args:
        objects: the store of the run.
        holder: the content that was written into the lease object.
        version: of the lease object that was written.
        confirmed: time on `clock` at which the request that wrote it was sent.
        clock: a monotonic clock, in seconds, that also runs while the machine is suspended.
    """

    def __init__(
        self,
        objects: Objects,
        holder: Holder,
        version: str,
        confirmed: float,
        clock: Callable[[], float] = boot_clock,
    ) -> None:
        self._objects, self._holder, self._version = objects, holder, version
        self._confirmed, self._clock = confirmed, clock
        self._stale = STALE_SECONDS
        self._lost = False
        self._trouble = ""
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def term(self) -> int:
        """Number of this lease, larger than those of all earlier holders."""
        return self._holder.term

    @property
    def is_held(self) -> bool:
        """Whether this process may act as the driver. It is true in at most one process at a time."""
        return not self._lost and self._clock() - self._confirmed < self._stale

    @classmethod
    def acquire(
        cls,
        objects: Objects,
        *,
        stale: float = STALE_SECONDS,
        clock: Callable[[], float] = boot_clock,
        sleep: Callable[[float], None] = time.sleep,
        beating: bool = True,
    ) -> "Lease":
        """Take the lease if it is free or its holder is gone.

        Args:
            objects: the store of the run.
            stale: seconds without a beat after which the holder counts as gone.
            clock: as for the constructor.
            sleep: called with the seconds to wait between two reads of the lease.
            beating: whether to start a thread that renews the lease until `close`.

        Raises:
            LeaseHeld: the holder is alive.
        """
        sent = clock()
        try:
            mine = this_process(highest_term(objects) + 1)
            lease = cls(objects, mine, objects.create(LEASE, mine.encode()), sent, clock)
        except AlreadyExists:
            lease = cls._take_over(objects, stale, clock, sleep)
        lease._stale = stale
        if beating:
            lease._start()
        return lease

    @classmethod
    def _take_over(
        cls,
        objects: Objects,
        stale: float,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> "Lease":
        seen, version = _read(objects)
        first, watched = seen, clock()
        while not (seen.released or is_gone(seen)):
            if (seen.term, seen.beat, seen.token) != (first.term, first.beat, first.token):
                raise LeaseHeld(
                    f"The driver of this run is {seen.described}: wait for it to end, stop it with "
                    "`toscore stop`, or choose another name."
                )
            if clock() - watched > stale:
                break
            sleep(_WATCH_SECONDS)
            seen, version = _read(objects)
        mine = this_process(max(seen.term, highest_term(objects)) + 1)
        sent = clock()
        try:
            return cls(objects, mine, objects.swap(LEASE, mine.encode(), version), sent, clock)
        except Conflict:
            holder = _read(objects)[0]
            raise LeaseHeld(
                f"Another driver has just started this run, {holder.described}: wait for it to end."
            ) from None

    def check(self) -> None:
        """Check that this process still holds the lease, without a request to the store.

        Raises:
            Fenced: another driver has taken the lease.
            LeaseInDoubt: no beat has reached the store for the stale time; check again later.
        """
        if self._lost:
            raise Fenced(
                "Another driver has taken this run over; this one has stopped writing to it."
            )
        if not self.is_held:
            raise LeaseInDoubt(
                f"The lease of this run could not be renewed for {self._stale:.0f} s "
                f"({self._trouble or 'no answer of the store'})"
            )

    def confirm(self) -> None:
        """Read the lease from the store, before an object is deleted, and check that it is still held.

        Raises:
            Fenced: another driver has taken the lease.
            LeaseInDoubt: see `check`.
        """
        self.check()
        if _read(self._objects)[0].token != self._holder.token:
            self._lost = True
            self.check()

    def beat(self) -> None:
        """Renew the lease once. No failure is raised here; `check` reports it."""
        beaten = replace(self._holder, beat=self._holder.beat + 1, nonce=secrets.token_hex(4))
        sent = self._clock()
        try:
            self._version = self._objects.swap(LEASE, beaten.encode(), self._version)
        except (Conflict, NotFound):
            self._settle()
        except Exception as error:  # unreachable, refused or unforeseen: `check` will report it
            self._trouble = str(error) or type(error).__name__
        else:
            self._holder, self._confirmed, self._trouble = beaten, sent, ""

    def _settle(self) -> None:
        """Resolve a conflict: the lease is another holder's, or this one's own beat whose answer was lost."""
        try:
            holder, version = _read(self._objects)
        except NotFound:
            self._lost = True
        except Exception as error:
            self._trouble = str(error) or type(error).__name__
        else:
            if holder.token == self._holder.token:
                self._holder, self._version = holder, version  # the next beat replaces it
            else:
                self._lost = True

    def close(self) -> None:
        """Release the lease, so that the next driver need not wait."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()
        if not self._lost:
            # If this fails, the next driver can take the lease after the stale time.
            with contextlib.suppress(Exception):
                last = replace(self._holder, released=True, nonce=secrets.token_hex(4))
                self._objects.swap(LEASE, last.encode(), self._version)

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._thread.start()

    def _keep(self) -> None:
        while not self._lost and not self._closing.wait(BEAT_SECONDS):
            self.beat()


def _read(objects: Objects) -> tuple[Holder, str]:
    """The holder of the lease, and the version of the object.

    A lease that cannot be parsed (truncated, or not written by a driver) counts as held by an unknown
    machine: it is taken over once it has not changed for the stale time.
    """
    data, version = objects.read_versioned(LEASE)
    try:
        return Holder.decode(data), version
    except UnreadableLease:
        seen = sha256(data).hexdigest()
        return Holder(highest_term(objects), "an unknown machine", "", 0, "?", token=seen), version
