"""From the peak of a path to a saddle of index 1, and from a saddle to the minima that it joins.

The highest point of a polygon is a height that was attained. ``refine_saddle`` follows it, up along one
direction and down along all others, to a stationary point, and ``classify_point`` says what that point is.
``descend_both_sides`` goes down on both sides along polylines that are nowhere higher than the saddle:
together they are a path whose height is the saddle's loss.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from topo_core.critical_points.classification import Tangents, classify_point
from topo_core.critical_points.eigenvector_following import follow
from topo_core.critical_points.following import FollowLimits
from topo_core.critical_points.krylov_following import follow_in_krylov_spaces
from topo_core.critical_points.saddle_descents import descend_both_sides_together
from topo_core.critical_points.scaled_loss import ScaledLoss, metric_basis
from topo_core.critical_points.verdicts import CriticalPoint, Verdict
from topo_core.objectives.protocol import Objective


@dataclass(frozen=True)
class SaddleSettings:
    """Limits of the number of steps and of the distance of a search.

    Attributes:
        steps: largest number of steps of the search. From the straight line between minima of a network with
            160 parameters it took 150 to 350; from peaks of relaxed paths it takes 10 to 30.
        dense: largest dimension in which whole Hessians are computed.
        first: first trust radius, in lengths of the path's chord at the peak.
        longest: largest trust radius, in the same unit.
        reach: how far from the peak a search may go, in the same unit.
        descent_steps: largest number of steps of each descent.
    """

    steps: int = 400
    dense: int = 256
    first: float = 0.3
    longest: float = 3.0
    reach: float = 30.0
    descent_steps: int = 400

    def __post_init__(self) -> None:
        for key in ("steps", "dense", "descent_steps"):
            if getattr(self, key) < 0:
                raise ValueError(f"{key} is {getattr(self, key)}; it must be 0 or more.")
        for key in ("first", "longest", "reach"):
            value = getattr(self, key)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{key} is {value}; it must be a finite number above 0.")


@dataclass(frozen=True)
class Saddle:
    """The end of a search from a peak.

    Attributes:
        critical: the point, its loss, gradient norm, lowest eigenvalues with bounds, index, and verdict.
        peak_loss: the loss at the peak.
        distance: from the peak to the point.
        chord: length of the path's chord at the peak, the unit of the settings' lengths.
        gradients, products: rows of gradients and Hessian-vector products of search and classification.
    """

    critical: CriticalPoint
    peak_loss: float
    distance: float
    chord: float
    gradients: int
    products: int

    @property
    def point(self) -> Tensor:
        """[d]."""
        return self.critical.point

    @property
    def loss(self) -> float:
        """At ``point``."""
        return self.critical.loss

    @property
    def is_pass(self) -> bool:
        """Whether it is proved to be a saddle of index 1: what separates two minima."""
        saddle = self.critical.verdict is Verdict.SADDLE
        return saddle and self.critical.index == 1 and self.critical.index_is_exact


@dataclass(frozen=True)
class SaddleDescent:
    """One side of a saddle.

    Attributes:
        polyline: [m, d], from the saddle to the end; nowhere higher than the saddle.
        loss: at its end.
        gradient_norm: there.
        converged: whether the end is stationary.
        gradients, products: rows of gradients and Hessian-vector products, half of what both sides took.
    """

    polyline: Tensor
    loss: float
    gradient_norm: float
    converged: bool
    gradients: int
    products: int


def refine_saddle(
    objective: Objective,
    peak: Tensor,
    direction: Tensor,
    settings: SaddleSettings | None = None,
    *,
    floor: float = -math.inf,
    symmetries: Tangents | None = None,
    seed: int = 0,
) -> Saddle:
    """The stationary point that belongs to the peak of a path.

    Args:
        objective: the loss, with exact gradients; use float64, since float32 resolves only large curvatures.
        peak: [d], the highest point of the path.
        direction: [d], the chord of the path there: its direction is climbed, its length is the unit of the
            settings.
        settings: all defaults when None.
        floor: loss below which the search stops. A pass of a path is not lower than the higher end of the
            path, so a search that falls below that end has left the path.
        symmetries: tangents of continuous symmetries of the loss, along which it has no curvature anywhere;
            without them no saddle of such a loss can be proved to have index 1. See ``classify_point``.
        seed: of the random directions of the classification.

    Raises:
        ValueError: a direction without length, or an objective with gradients on minibatches only.
    """
    settings = settings or SaddleSettings()
    chord = float(direction.norm())
    if not (chord > 0 and math.isfinite(chord)):
        raise ValueError(
            f"the direction has the length {chord}; give the chord of a path at its peak."
        )
    loss, start, along = _scaled(objective, peak, direction, settings)
    peak_loss = float(loss.losses(start[None]))
    limits = FollowLimits(
        settings.longest,
        tolerance=1e-12 * abs(peak_loss) + 1e-300,
        steps=settings.steps,
        floor=floor,
        reach=settings.reach,
    )
    radius = start.new_tensor([settings.first])
    near = None
    if loss.basis is not None:
        result = follow(loss, start[None], along[None], limits, radius=radius)
    else:
        result = follow_in_krylov_spaces(
            loss, start[None], along[None], limits, radius=radius, spectrum=False
        )
        if bool(result.converged[0]):
            near = result.vectors[
                0, :, 0
            ]  # in these coordinates directions are those of the parameters
    point = loss.theta(result.points[0])
    critical = classify_point(objective, point, symmetries=symmetries, near=near, seed=seed)
    return Saddle(
        critical=critical,
        peak_loss=peak_loss,
        distance=float((point - peak).norm()),
        chord=chord,
        gradients=loss.gradient_rows + critical.gradients,
        products=loss.product_rows + critical.products,
    )


def _scaled(
    objective: Objective, peak: Tensor, direction: Tensor, settings: SaddleSettings
) -> tuple[ScaledLoss, Tensor, Tensor]:
    """The loss in coordinates in which the chord has length 1, the peak, and the chord."""
    chord = float(direction.norm())
    plain = ScaledLoss(objective, peak)
    if len(peak) <= settings.dense:
        hessians = plain.hessians(torch.zeros_like(peak)[None])
        if bool(hessians.isfinite().all()):
            basis = metric_basis(hessians)
            length = float((torch.linalg.inv(basis) @ direction).norm())
            scaled = ScaledLoss(objective, peak, basis * length)
            scaled.product_rows = plain.product_rows
            origin = torch.zeros_like(peak)
            return scaled, origin, scaled.coordinates(peak + direction)
    scaled = ScaledLoss(objective, peak, None, chord)
    return scaled, torch.zeros_like(peak), direction / chord


def descend_both_sides(
    objective: Objective, saddle: Saddle, settings: SaddleSettings | None = None
) -> tuple[SaddleDescent, SaddleDescent]:
    """Down from ``saddle`` on both sides of its lowest mode, to the two minima that it joins.

    Raises:
        ValueError: a point without a direction along which the loss falls.
    """
    settings = settings or SaddleSettings()
    direction = saddle.critical.direction
    if direction is None:
        raise ValueError(
            f"the point is {saddle.critical.verdict.name.lower()}, and no direction leads down from it; "
            "give a saddle."
        )
    loss, start, _ = _scaled(objective, saddle.point, direction * saddle.chord, settings)
    if loss.basis is not None:
        values, vectors = torch.linalg.eigh(loss.hessians(start[None]))
    else:
        along = loss.coordinates(saddle.point + direction)[None]
        vectors = (along / along.norm())[:, :, None]
        values = (vectors[:, :, 0] * loss.products(start[None], vectors[:, :, 0])).sum(
            1, keepdim=True
        )
    down = descend_both_sides_together(
        loss,
        start[None],
        values,
        vectors,
        first=0.1,
        longest=settings.longest,
        tolerance=1e-15 * abs(saddle.loss),
        steps=settings.descent_steps,
    )
    sides = []
    for k in (0, 1):
        polyline = loss.theta(down.polylines[k])
        polyline[0] = saddle.point
        norm = float(loss.parameter_gradients(down.gradients[k]).norm())
        sides.append(
            SaddleDescent(
                polyline,
                float(down.losses[k]),
                norm,
                bool(down.converged[k]),
                (loss.gradient_rows + 1 - k) // 2,
                (loss.product_rows + 1 - k) // 2,
            )
        )
    return sides[0], sides[1]
