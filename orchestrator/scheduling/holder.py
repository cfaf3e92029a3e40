"""The holder of a run's lease: the content of the lease object, and a check whether its process has ended."""

import contextlib
import json
import os
import secrets
import socket
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path


class UnreadableLease(ValueError):
    """The lease object was not written by a driver, or is truncated; the message says which."""


@dataclass(frozen=True)
class Holder:
    """The content of the lease object.

    Attributes:
        term: number of the lease; it grows each time the lease changes hands.
        host: name of the holder's machine.
        pid: process identifier of the holder.
        beat: counter that the holder increments to show that it is alive.
        released: whether the holder has given the lease up.
    """

    term: int
    host: str
    boot: str
    """Identifier of the boot of the machine and of the PID namespace; empty if unknown."""
    pid: int
    started: str
    """Start time of the process, ISO 8601; used in messages only."""
    token: str = ""
    """Random, and the same in all beats of one holder. By it a holder recognises its own lease after a beat
    whose answer was lost."""
    beat: int = 0
    released: bool = False
    nonce: str = ""
    """Random in each write, so that no two writes have equal bytes."""

    def encode(self) -> bytes:
        """The content as JSON."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, data: bytes) -> "Holder":
        """Parse the bytes that `encode` made.

        Raises:
            UnreadableLease: they are truncated, or were not written by a driver.
        """
        if not data:
            raise UnreadableLease("it is empty")
        try:
            values = json.loads(data)
            known = {field.name: field.type for field in fields(cls)}
            holder = cls(**{name: value for name, value in values.items() if name in known})
        except (ValueError, TypeError, AttributeError) as error:
            raise UnreadableLease(f"it holds no lease: {error}") from None
        numbers = (holder.term, holder.pid, holder.beat)
        if not all(isinstance(number, int) for number in numbers):
            raise UnreadableLease("its term, pid or beat is not a number")
        return holder

    @property
    def described(self) -> str:
        """The process, its machine and its start, for messages."""
        return f"process {self.pid} on {self.host} since {self.started}"


def this_process(term: int) -> Holder:
    """This process as the holder of a new term."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    token = secrets.token_hex(8)
    return Holder(term, socket.gethostname(), _boot(), os.getpid(), now, token)


def _boot() -> str:
    """Identifier of this machine's boot and of the PID namespace; empty where `/proc` is missing."""
    with contextlib.suppress(OSError):
        namespace = os.readlink("/proc/self/ns/pid")
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + namespace
    return ""


def is_gone(holder: Holder) -> bool:
    """Whether this machine can prove that the holder's process has ended.

    The proof is that the kernel knows no such process, or only a zombie. A missing entry in `/proc` is no
    proof: the entry may be hidden (`hidepid=2`), or unreadable because no file descriptor is free.
    """
    if not holder.boot or holder.boot != _boot():
        return False
    try:
        os.kill(holder.pid, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:  # the process exists and belongs to another user
        return False
    try:
        state = Path(f"/proc/{holder.pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state in "ZX"
