"""Converts numbers to values of JSON, which has no infinite numbers and no NaN."""

import math
from typing import TypeVar

T = TypeVar("T")


def finite_or_none(value: T) -> T | None:
    """``value``, or None if it is an infinite or NaN float."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
