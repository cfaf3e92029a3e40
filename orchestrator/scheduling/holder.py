"""The holder of a run's lease: the content of the lease object, and whether that process still lives."""

import contextlib
import json
import os
import secrets
import socket
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path


class UnreadableLease(ValueError):
    """The lease object was not written by a driver, or is cut off; the message says why."""


@dataclass(frozen=True)
class Holder:
    """The content of the lease object."""

    term: int
    host: str
    boot: str
    """Identifies a machine since its last boot, and the PID namespace; empty where unknown."""
    pid: int
    started: str
    """ISO 8601, for messages only."""
    token: str = ""
    """Random and the same for all beats of one holder: recognises our own lease after a lost answer."""
    beat: int = 0
    released: bool = False
    nonce: str = ""
    """Random for each write, so that no two writes have equal bytes."""

    def encode(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, data: bytes) -> "Holder":
        """The holder that wrote these bytes.

        Raises:
            UnreadableLease: they were cut off, or written by something else.
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
        return f"process {self.pid} on {self.host} since {self.started}"


def this_process(term: int) -> Holder:
    """This process as the holder of a new term."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    token = secrets.token_hex(8)
    return Holder(term, socket.gethostname(), _boot(), os.getpid(), now, token)


def _boot() -> str:
    with contextlib.suppress(OSError):
        namespace = os.readlink("/proc/self/ns/pid")
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + namespace
    return ""


def is_gone(holder: Holder) -> bool:
    """Whether this machine can prove that the holder's process has ended.

    The proof is that the kernel has no such process, or only its zombie. `/proc` alone is no proof, since it
    may be hidden (`hidepid=2`) or unreadable for lack of file descriptors.
    """
    if not holder.boot or holder.boot != _boot():
        return False
    try:
        os.kill(holder.pid, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:  # it exists and belongs to another user
        return False
    try:
        state = Path(f"/proc/{holder.pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state in "ZX"
