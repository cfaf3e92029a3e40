"""Keys: hashes that name results, so that equal tasks have equal keys.

A run that is started again, enlarged, or reuses another run finds existing results by comparing keys. A key
covers everything that decides the result except two things: the index of a minimum in its run (another run
may number it differently), and how the arithmetic is carried out (strategy, threads), which changes only the
last bits and is fixed once for a run. Gradients in less than float32 change more than the last bits, so their
results have keys of their own.
"""

import hashlib
import json
from typing import Any

KEY_LENGTH = 32
"""Hex digits of a key: 128 bits."""

RESULTS_VERSION = 4
"""Increased when the meaning of a result changes, so that older results are not taken for newer ones."""


def digest(*parts: Any) -> str:
    """Hash of JSON-able parts, as `KEY_LENGTH` hex digits; independent of the order of dict keys."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]
