"""The columns of a record that describe the loss along a path."""

from typing import Any

from torch import Tensor

from topo_core.paths.profiles import Profile


def measures_of(profile: Profile, points: Tensor) -> dict[str, Any]:
    """The columns of `MeasuredPath` that depend on the points [n, d] of a path, from their profile.

    The profile includes both ends, so the height is at least the loss of each minimum.
    """
    return {
        "height": profile.maximum,
        "height_high": profile.maximum + profile.bracket,
        "argmax_position": float(profile.positions[profile.argmax]),
        "positions": profile.positions.tolist(),
        "losses": profile.losses.tolist(),
        "first_passage_a": profile.first_passage(),
        "first_passage_b": profile.first_passage(from_end=True),
        "dips_a": profile.dips[0],
        "dips_b": profile.dips[1],
        "points": len(points),
    }
