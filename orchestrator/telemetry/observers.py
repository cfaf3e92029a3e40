"""Several observers as one."""

import contextlib
import sys

from orchestrator.telemetry.events import ObservedEvent, Observer
from orchestrator.telemetry.tally import Tally


class Observers:
    """Passes each event to all observers, after the tally that all of them may read.

    An observer that raises never stops the driver: its first error is printed to standard error, and it
    goes on receiving events.
    """

    def __init__(self, *observers: Observer) -> None:
        self.tally = Tally()
        self._observers: list[Observer] = [self.tally, *observers]
        self._reported: set[int] = set()

    def add(self, observer: Observer) -> None:
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
        with contextlib.suppress(OSError, ValueError):  # standard error is closed, too
            print(
                f"{type(observer).__name__} could not show an event ({type(error).__name__}: {error}); "
                "the run goes on.",
                file=sys.stderr,
            )
