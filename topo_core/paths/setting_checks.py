"""Checks of settings that must be integers or finite numbers; booleans are refused."""

import math
from typing import Any


def check_count(key: str, value: Any, least: int) -> None:
    """Check that a setting is None or an integer of at least ``least``.

    Raises:
        ValueError: it is not; the message names the key.
    """
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{key} is {value!r}; it must be a whole number, {least} or more.")
    if value < least:
        raise ValueError(f"{key} is {value}; it must be {least} or more.")


def check_number(key: str, value: Any, *, positive: bool) -> None:
    """Check that a setting is None or a finite number, above 0 if ``positive`` and else at least 0.

    Raises:
        ValueError: it is not; the message names the key.
    """
    if value is None:
        return
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < 0 or (positive and value == 0):
        bound = "above 0" if positive else "0 or more"
        raise ValueError(f"{key} is {value!r}; it must be a finite number, {bound}.")
