"""The ridge ½ λ‖θ‖²: a regulariser that is part of the loss."""

import re
from dataclasses import dataclass

import torch
from torch import Tensor

from topo_core.objectives.flat_parameters import ParameterLayout


@dataclass(frozen=True)
class Ridge:
    """½ λ Σ θ_i² over all parameters, or over those whose names match a pattern.

    With cross entropy alone no minimum exists: its infimum is at infinity. A ridge makes the gradient
    point outwards far from the origin, which section 1.3 of the paper assumes.

    Attributes:
        strength: λ, 0 or more.
        pattern: regular expression, searched for anywhere in a parameter's name; None for all.
    """

    strength: float
    pattern: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.strength < float("inf"):
            raise ValueError(
                f"loss.ridge is {self.strength}; it must be a finite number, 0 or more"
            )

    def on(self, layout: ParameterLayout) -> "RidgeTerm":
        """The ridge as a function of the flat parameters of a network.

        Raises:
            ValueError: no parameter's name matches the pattern.
        """
        if self.pattern is None:
            return RidgeTerm(self.strength, None)
        chosen = [re.search(self.pattern, name) is not None for name in layout.names]
        if not any(chosen):
            raise ValueError(
                f"loss.ridge_on is {self.pattern!r}, which matches no parameter; the network has "
                f"{', '.join(layout.names)}"
            )
        sizes = zip(chosen, layout.sizes, strict=True)
        return RidgeTerm(
            self.strength, torch.cat([torch.full((size,), float(own)) for own, size in sizes])
        )


class RidgeTerm:
    """½ λ Σ m_i θ_i² on rows [k, d], with a mask m [d] of zeros and ones."""

    def __init__(self, strength: float, mask: Tensor | None) -> None:
        self.strength, self._mask = strength, mask

    def values(self, points: Tensor) -> Tensor:
        """Values [k] in float64."""
        return 0.5 * self.strength * self._dot(points, points)

    def add_gradients_(self, gradients: Tensor, points: Tensor) -> None:
        """Add λ m θ to `gradients` [..., d], for θ in `points`; this is also the Hessian times `points`."""
        rows = points if self._mask is None else points * self._mask.to(points)
        gradients.add_(rows, alpha=self.strength)

    def values_on_segments(self, starts: Tensor, ends: Tensor, alphas: Tensor) -> Tensor:
        """Values [s, m] in float64 at (1 − α) start + α end: a quadratic of α."""
        alphas = alphas.double()
        first, last, mixed = (
            self._dot(a, b)[:, None] for a, b in ((starts, starts), (ends, ends), (starts, ends))
        )
        other = 1 - alphas
        squares = other.square() * first + alphas.square() * last + 2 * alphas * other * mixed
        return 0.5 * self.strength * squares

    def _dot(self, a: Tensor, b: Tensor) -> Tensor:
        products = a.double() * b.double()
        if self._mask is not None:
            products = products * self._mask.to(products)
        return products.sum(-1)
