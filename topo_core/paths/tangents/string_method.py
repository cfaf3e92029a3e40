"""The string method (E, Ren & Vanden-Eijnden 2002): the tangent is the chord between the two neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from topo_core.paths.tangents.along_tangent import projection, with_climbing
from topo_core.paths.tangents.protocol import Method, Neighbourhood

if TYPE_CHECKING:
    from torch import Tensor


class StringMethod:
    """The gradient minus its projection on the central tangent."""

    method = Method()

    def shares(self, around: Neighbourhood) -> tuple[Tensor, Tensor]:
        """A_b and A_f, [k] each."""
        one = around.along_back.new_ones(around.along_back.shape)
        along, _ = projection(around, one, one)
        share = with_climbing(around, along, along)
        return share, share


STRING = StringMethod()
