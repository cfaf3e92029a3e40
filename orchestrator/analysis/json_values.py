"""How numbers of a landscape are written as JSON."""

import math


def finite_or_none(value: float | None) -> float | None:
    """``value``, or None where it is infinite, not a number, or missing: JSON has no such numbers."""
    return value if value is not None and math.isfinite(value) else None
