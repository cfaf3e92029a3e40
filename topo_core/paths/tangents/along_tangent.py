"""The part of a gradient along a tangent that is a combination of the two chords."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from topo_core.paths.tangents.protocol import Neighbourhood


def projection(around: Neighbourhood, back: Tensor, front: Tensor) -> tuple[Tensor, Tensor]:
    """The projection of the gradient on the tangent t = back · b + front · f at k points.

    ``back`` and ``front`` are [k].

    Returns:
        The factors [k] of t in the projection, and the squared lengths [k] of t.
    """
    square = around.chords.square(back, front)
    share = ratio(back * around.along_back + front * around.along_front, square)
    return share, square


def with_climbing(around: Neighbourhood, along: Tensor, share: Tensor) -> Tensor:
    """``share`` [k], but twice the projection ``along`` [k] at climbing points.

    This reverses the tangential part of the gradient at a climbing point (Henkelman, Uberuaga & Jónsson
    2000). The point then moves up along the path and down across it, to a saddle.
    """
    if around.climbing is None:
        return share
    return (2 * along).where(around.climbing, share)


def ratio(part: Tensor, whole: Tensor) -> Tensor:
    """``part / whole``, and 0 where ``whole`` is 0, as for a chord of length 0."""
    return (part / whole).where(whole > 0, part.new_zeros(()))
