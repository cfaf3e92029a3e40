"""Combines several observers into one."""

import contextlib
import sys

from orchestrator.telemetry.events import ObservedEvent, Observer
from orchestrator.telemetry.tally import Tally


class Observers:
    """Passes each event first to a tally, which all observers may read, and then to each observer.

    An observer that raises never stops the driver: its first error is printed to standard error, and it
    still receives later events.

    Attributes:
        tally: counts all events.
    """

    def __init__(self, *observers: Observer) -> None:
        self.tally = Tally()
        self._observers: list[Observer] = [self.tally, *observers]
        self._reported: set[int] = set()

    def add(self, observer: Observer) -> None:
        """Add an observer, which receives all later events."""
        self._observers.append(observer)

    def __call__(self, event: ObservedEvent) -> None:
        for observer in self._observers:
            try:
                observer(event)
            except Exception as error:
                self._report(observer, error)

    def _report(self, observer: Observer, error: Exception) -> None:
        if id(observer) in self._reported:
            return
        self._reported.add(id(observer))
        with contextlib.suppress(OSError, ValueError):  # standard error may be closed as well
            print(
                f"{type(observer).__name__} could not show an event ({type(error).__name__}: {error}); "
                "the run goes on.",
                file=sys.stderr,
            )
