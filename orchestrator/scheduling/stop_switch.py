"""Combines the two sources of stop requests: signals and `toscore stop`."""

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
    """The present stop request; the driver calls it in every iteration of its loop.

    Attributes:
        watch: polls the store for requests of `toscore stop`.
        asked: the request that signals have made.
        by: the name of the signal that requested to stop; empty if none has.
    """

    watch: StopWatch
    asked: Stop = Stop.NO
    by: str = ""

    def __call__(self) -> Stop:
        if self.asked is Stop.NO and self.watch.asked:
            return Stop.GRACEFUL
        return self.asked

    def now(self) -> bool:
        """Whether a signal has requested to stop at once."""
        return self.asked is Stop.NOW

    def pull(self, signum: int, frame: FrameType | None) -> None:
        """Handle SIGINT or SIGTERM: the first requests to stop at once, a second one ends the process."""
        if self.asked is Stop.NOW:
            os._exit(ExitCode.INTERRUPTED)
        self.asked, self.by = Stop.NOW, signal.Signals(signum).name


@contextlib.contextmanager
def stopping_on_signals(switch: StopSwitch) -> Iterator[None]:
    """Install `StopSwitch.pull` as the handler of SIGINT and SIGTERM.

    On other threads than the main thread, where Python cannot install handlers, nothing is done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {s: signal.signal(s, switch.pull) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
