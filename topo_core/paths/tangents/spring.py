"""The nudged elastic band: the improved tangent, with a spring force k (|f| - |b|) along it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from topo_core.paths.tangents.along_tangent import projection, ratio, with_climbing
from topo_core.paths.tangents.improved import upwind_weights
from topo_core.paths.tangents.protocol import Method, Neighbourhood

if TYPE_CHECKING:
    from torch import Tensor


class Spring:
    """The improved tangent with springs between neighbours."""

    method = Method(redistributes=False)

    def shares(self, around: Neighbourhood) -> tuple[Tensor, Tensor]:
        """A_b and A_f, [k] each."""
        back, front = (w.to(around.along_back.dtype) for w in upwind_weights(around.losses))
        along, square = projection(around, back, front)
        stretch = around.chords.front_front.sqrt() - around.chords.back_back.sqrt()
        share = along + around.spring * ratio(stretch, square.sqrt())
        share = with_climbing(around, along, share)
        return share * back, share * front


SPRING = Spring()
