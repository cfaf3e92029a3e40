"""Repeats the driver's own calls to the store while it is unreachable or full, up to a time limit.

A task that cannot reach the store fails, and the scheduler pauses it (`StoreOutage`). This module is for the
calls of the driver itself.
"""

import time
from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_exponential

from orchestrator.scheduling.policy import Policy
from workers.storage.objects import StoreFull, StoreUnreachable

Answer = TypeVar("Answer")

_PIECE_SECONDS = 0.25
"""Seconds between two checks of `leaving` during a pause: an interrupt ends the pause within this time."""


class StoreRetry:
    """Repeats a call that needs the store, with exponentially growing pauses.

    Args:
        policy: lengths of the pauses, and the time limit.
        waiting: receives the reason of each pause.
        leaving: returns whether to stop waiting.
    """

    def __init__(
        self, policy: Policy, waiting: Callable[[str], None], leaving: Callable[[], bool]
    ) -> None:
        self._waiting, self._leaving = waiting, leaving
        self._retrying = Retrying(
            retry=retry_if_exception_type((StoreUnreachable, StoreFull)),
            wait=wait_exponential(multiplier=policy.backoff, max=policy.max_backoff),
            stop=lambda state: leaving() or (state.seconds_since_start or 0) > policy.patience,
            before_sleep=self._report,
            sleep=self._sleep,
            reraise=True,
        )

    def __call__(self, action: Callable[[], Answer]) -> Answer:
        """Call `action` until it succeeds, and return its result.

        Raises:
            StoreUnreachable, StoreFull: `action` still fails after `Policy.patience` seconds, or `leaving` is
                true.
        """
        answer: Answer = self._retrying(action)
        return answer

    def _report(self, state: RetryCallState) -> None:
        if state.outcome is not None:
            self._waiting(str(state.outcome.exception()))

    def _sleep(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self._leaving():
            time.sleep(_PIECE_SECONDS)
