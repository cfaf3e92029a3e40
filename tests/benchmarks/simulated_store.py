"""A store far away in simulated time: each request takes a while, and some fail."""

import io
import random
import threading
from collections.abc import Callable
from typing import Any

import pyarrow.parquet as pq

from tests.helpers.memory_objects import MemoryObjects
from workers.storage.objects import StoreUnreachable
from workers.storage.record_files import to_table
from workers.storage.schema import ResultRecord

LATENCY, ERRORS, AT_ONCE = 0.02, 0.01, 16
"""Of the store: seconds of an answer, share of errors, and reads that the driver makes at the same time."""


class Clock:
    """Simulated seconds."""

    now = 0.0

    def __call__(self) -> float:
        return self.now

    monotonic = __call__

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Remote:
    """A store in memory, far away: each request takes time on a clock and may fail.

    Args:
        objects: the content, which others see as well.
        wait: takes the seconds of a request.
        draw: decides which requests fail.
    """

    def __init__(
        self, objects: MemoryObjects, wait: Callable[[float], None], draw: random.Random
    ) -> None:
        self._objects, self._wait, self._draw = objects, wait, draw
        self.requests = 0

    def __getattr__(self, name: str) -> Any:
        operation = getattr(self._objects, name)
        if not callable(operation):
            return operation

        def request(*arguments: Any) -> Any:
            self.requests += 1
            if threading.current_thread() is threading.main_thread():  # others run beside the loop
                self._wait(LATENCY / AT_ONCE if name == "get" else LATENCY)
            if self._draw.random() < ERRORS:
                raise StoreUnreachable("503")
            return operation(*arguments)

        return request


class Template:
    """A file with one record, whose key is replaced: encoding half a million records would take longer than
    the driver.

    Args:
        record: any record.
    """

    def __init__(self, record: ResultRecord) -> None:
        sink = io.BytesIO()
        table = to_table([record])
        pq.write_table(
            table, sink, compression="none", use_dictionary=False, write_statistics=False
        )
        self._before, self._after = sink.getvalue().split(record.key.encode())
        self._length = len(record.key)

    def with_key(self, key: str) -> bytes:
        assert len(key) == self._length
        return self._before + key.encode() + self._after
