"""The part of a gradient along a tangent that is a combination of the two chords."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from topo_core.paths.tangents.protocol import Neighbourhood


def projection(around: Neighbourhood, back: Tensor, front: Tensor) -> tuple[Tensor, Tensor]:
    """The projection of the gradient on the tangent back · b + front · f, as a multiple of it [k].

    A climbing point (Henkelman, Uberuaga & Jónsson 2000) gets twice the projection: its tangential part is
    reversed, so it moves up along the path and down across it, to a saddle. Also the squared lengths [k]
    of the tangents.
    """
    square = around.chords.square(back, front)
    share = ratio(back * around.along_back + front * around.along_front, square)
    return share, square


def with_climbing(around: Neighbourhood, along: Tensor, share: Tensor) -> Tensor:
    """``share`` [k], and twice the projection ``along`` [k] at climbing points."""
    if around.climbing is None:
        return share
    return (2 * along).where(around.climbing, share)


def ratio(part: Tensor, whole: Tensor) -> Tensor:
    """part / whole, and 0 where a chord has no length."""
    return (part / whole).where(whole > 0, part.new_zeros(()))
