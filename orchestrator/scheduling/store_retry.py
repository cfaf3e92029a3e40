"""The driver's own calls to the store: repeated while it is away or full, for as long as it is worth it.

A task that cannot reach the store comes back to the machine and waits there. What the driver itself reads
and writes has nowhere to go back to, so it waits here.
"""

import time
from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_exponential

from orchestrator.scheduling.scheduler import Policy
from workers.storage.objects import StoreFull, StoreUnreachable

Answer = TypeVar("Answer")

DOZE_SECONDS = 0.25
"""How often somebody who waits looks whether he was told to leave."""


class Patience:
    """Repeats what needs the store, with growing pauses.

    Args:
        policy: how long.
        told: is told why nothing goes on.
        leaving: whether to stop waiting.
    """

    def __init__(
        self, policy: Policy, told: Callable[[str], None], leaving: Callable[[], bool]
    ) -> None:
        self._told, self._leaving = told, leaving
        self._retrying = Retrying(
            retry=retry_if_exception_type((StoreUnreachable, StoreFull)),
            wait=wait_exponential(multiplier=policy.backoff, max=policy.max_backoff),
            stop=lambda state: leaving() or (state.seconds_since_start or 0) > policy.patience,
            before_sleep=self._tell,
            sleep=self._doze,
            reraise=True,
        )

    def __call__(self, action: Callable[[], Answer]) -> Answer:
        """What `action` returns.

        Raises:
            StoreUnreachable, StoreFull: it is still so after all patience, or somebody said to leave.
        """
        answer: Answer = self._retrying(action)
        return answer

    def _tell(self, state: RetryCallState) -> None:
        if state.outcome is not None:
            self._told(str(state.outcome.exception()))

    def _doze(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self._leaving():
            time.sleep(DOZE_SECONDS)
