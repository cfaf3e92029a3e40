"""The structured log: one line with one JSON object per event."""

import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from typing import Any, TextIO

from orchestrator.telemetry.events import ObservedEvent, Progress
from orchestrator.telemetry.json_values import finite_or_none


class JsonLines:
    """Writes each event as one line of strict JSON (RFC 8259).

    Every line has `time` (ISO 8601, UTC), `event` (the name of its class) and the fields of the context. A
    line about a task also has its `key`, its title as `what`, and the `worker`, `node` and `attempt` of its
    execution. NaN and infinite numbers, which JSON lacks, become null. `Progress` events are left out.

    Args:
        stream: to which the lines are written.
        context: fields that every line repeats.
        clock: returns the present time in UTC.
    """

    def __init__(
        self, stream: TextIO, context: dict[str, Any], clock: Callable[[], datetime]
    ) -> None:
        self._stream, self._context, self._clock = stream, context, clock

    def __call__(self, event: ObservedEvent) -> None:
        if isinstance(event, Progress):
            return
        row = {
            "time": self._clock().isoformat(timespec="milliseconds"),
            "event": type(event).__name__,
            **self._context,
            **asdict(event),
        }
        finite = {name: finite_or_none(value) for name, value in row.items()}
        print(json.dumps(finite, allow_nan=False), file=self._stream, flush=True)
