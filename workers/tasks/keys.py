"""Keys: hashes that name results, so that equal tasks have equal keys.

A run that is continued, enlarged, or reuses the results of another run finds existing results by comparing
keys. A key depends on everything that decides the result, with two exceptions. The index of a minimum is not
part of its key, because another run may number the same minimum differently. The evaluation strategy and the
number of threads are not part of it either: they change only the last bits, and a run fixes them once.
Gradients in lower precision than float32 change more than the last bits, so the precision is part of the key.
"""

import hashlib
import json
from typing import Any

KEY_LENGTH = 32
"""Hex digits of a key. They hold 128 bits, so no two of the half a million tasks of a run share a key by
chance."""

RESULTS_VERSION = 4
"""Increased when the meaning of a result changes, so that older results are not taken for newer ones."""


def digest(*parts: Any) -> str:
    """SHA-256 of parts that JSON can encode, as `KEY_LENGTH` hex digits; the order of dict keys has no
    effect.

    Raises:
        TypeError: JSON cannot encode a part.
        ValueError: a part holds NaN or an infinite number.
    """
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]
