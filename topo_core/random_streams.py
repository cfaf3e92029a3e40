"""Random numbers as a function of what they are for.

No draw of this package reads a global generator. A draw is named, for instance
``generator(seed, "subset", epoch, batch)``, so it does not depend on how many draws came
before it: an interrupted run that goes on makes the draws of an uninterrupted one.
"""

import hashlib

import torch


def seed_of(*parts: int | float | str) -> int:
    """A seed (63 bits) from the SHA-256 of ``repr(parts)``."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(*parts: int | float | str) -> torch.Generator:
    """A CPU generator seeded by ``seed_of(*parts)``."""
    return torch.Generator().manual_seed(seed_of(*parts))
