"""Converts numbers of a landscape to JSON values."""

import math


def finite_or_none(value: float | None) -> float | None:
    """``value``, or None if it is infinite, NaN or None; JSON has no infinite numbers and no NaN."""
    return value if value is not None and math.isfinite(value) else None
