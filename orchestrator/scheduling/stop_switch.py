"""Requests to stop a driver: by a signal, or by `toscore stop`."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType

from orchestrator.scheduling.exit_codes import ExitCode
from orchestrator.scheduling.outcome import Stop
from orchestrator.scheduling.stop_request import StopWatch


@dataclass
class StopSwitch:
    """Whether and how the driver should stop; the driver calls it between events.

    Attributes:
        watch: sees requests of `toscore stop`.
        asked: what signals have requested.
    """

    watch: StopWatch
    asked: Stop = Stop.NO

    def __call__(self) -> Stop:
        if self.asked is Stop.NO and self.watch.asked:
            return Stop.GRACEFUL
        return self.asked

    def now(self) -> bool:
        """Whether a signal requested to stop at once."""
        return self.asked is Stop.NOW

    def pull(self, signum: int, frame: FrameType | None) -> None:
        """The handler of SIGINT and SIGTERM; a second signal ends the process."""
        if self.asked is Stop.NOW:
            os._exit(ExitCode.INTERRUPTED)
        self.asked = Stop.NOW


@contextlib.contextmanager
def stopping_on_signals(switch: StopSwitch) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM pull the switch, where this is the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {s: signal.signal(s, switch.pull) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
