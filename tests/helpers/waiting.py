"""Waiting for a state, on machines of any speed."""

import time
from collections.abc import Callable


def wait_for(
    state: Callable[[], object],
    seconds: float = 120,
    *,
    otherwise: Callable[[], str] = lambda: "",
    pause: float = 0.05,
) -> None:
    """Return once `state` is true.

    Args:
        state: looked at again and again.
        seconds: far more than it takes on a slow machine.
        otherwise: what the error says beside the time.
        pause: seconds between two looks.

    Raises:
        AssertionError: the time is up.
    """
    deadline = time.monotonic() + seconds
    while not state():
        if time.monotonic() > deadline:
            raise AssertionError(f"not reached in {seconds} s: {otherwise()}")
        time.sleep(pause)
