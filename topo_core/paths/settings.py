"""The settings of the optimisation of a path.

A user writes ``PathSettings``. ``PathSettings.resolve`` fills in the values that depend on the objective,
once, when the optimisation begins. All later functions take the result, a ``ResolvedSettings``.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from topo_core.paths.height_rules import HEIGHTS
from topo_core.paths.insertion_settings import Insertion
from topo_core.paths.schedules import Schedule
from topo_core.paths.setting_checks import check_count, check_number
from topo_core.paths.start_registry import STARTS
from topo_core.paths.tangents.protocol import TangentRule
from topo_core.paths.tangents.registry import TANGENTS
from topo_core.paths.update_settings import OptimizerSettings

# Defaults of settings that are None, from the comparisons in docs/performance.md.
_EPOCHS = 100  # at least
_STEPS = 2000  # at least, so that objectives with few minibatches get enough steps
# at least; most curves end earlier, where they no longer pay (`starts.hand_over`)
_CURVE_PASSES = 800
_CURVE_GRADIENTS = 6400
# with exact gradients in up to `LARGE` dimensions, where saddles are searched from the peaks of the path
_CURVE_GRADIENTS_SEARCH = 1600
LARGE = 1000
"""Number of dimensions above which a search for routes over other minima costs more gradients than it
saves."""
SMALL = 48
"""Number of dimensions up to which that search has its whole budget before a curve is trained: there it joins
most pairs of minima over proved saddles."""
SEARCHED = 128
"""Number of dimensions up to which a search comes first, and CONVERGED is said only if it is complete."""
# in more than `SMALL` dimensions, after a curve and a search that cost about 200 steps
_STEPS_MEDIUM = 300
_STEPS_LARGE = 600  # with exact gradients in more than `LARGE` dimensions
_POINTS_LARGE = 37  # twice the default number of segments, plus one
_INSERT_EVERY = 20  # steps
_REDISTRIBUTE = 10  # steps
_FOCUS = 4.0
_COUNTS = {
    "points": 3,
    "epochs": 0,
    "points_per_step": 1,
    "redistribute_every": 0,
    "climbing_epochs": 0,
    "bezier_epochs": 1,
    "evaluate_every": 1,
}
"""Settings that are whole numbers, and the least value of each."""
_NUMBERS = {
    "l2": False,
    "spring": False,
    "focus": False,
    "max_move": True,
    "bezier_rate": True,
    "height_tolerance": True,
    "convergence_tolerance": True,
}
"""Settings that are finite numbers, and whether they must be above 0."""


@dataclass(frozen=True)
class PathSettings:
    """Everything about the optimisation of one path, except its ends and its seed.

    Where None is allowed, the value depends on the objective or on the tangent rule; ``resolve`` fills it in.

    Attributes:
        points: points of the starting path, the two ends included.
        start: how the starting path is made, a name of ``start_registry``. ``line`` is the straight line of
            the paper; ``bezier`` a trained curve of degree 4; ``routes`` the lowest of the line, of arches
            and of routes over other minima; ``saddles`` the lowest route over verified saddles, after which
            no step is needed. For ``aligned``, ``through``, ``warm`` and ``moved`` the caller makes the path.
            ``auto`` is ``line`` with ``paper``, ``saddles`` for exact gradients in up to 1,000 dimensions,
            and ``bezier`` elsewhere.
        force: the tangent rule, a name of ``tangents.registry``.
        epochs: largest number of passes over the objective's minibatches; the run ends earlier if the path
            is as low as its higher end, its highest point is verified, or it no longer moves. 0 only measures
            the starting path. None means at least 100 epochs and at least 2,000 steps; with exact gradients
            300 in more than 48 dimensions, and 600 in more than 1,000 dimensions.
        optimizer: None for Adam at 0.003 on minibatches (docs/performance.md has the
            comparison), for SGD at 0.05 with ``paper``, and where gradients are exact for
            ``secant`` in up to 48 dimensions and ``scaled_adam`` at 0.3 in more.
        schedule: of the learning rate; None for ``anneal``, and for a constant rate with ``paper``.
        l2: weight decay, added to gradients before the projection but not to reported losses. Paths
            between networks of a run have 1e-5 (section 1.2); for other functions the default is 0.
        insertion: Algorithm 3. None means a fixed number of points; with exact gradients in more than 48
            dimensions it means midpoints, up to 37 points in all, on segments whose loss rises above linear
            interpolation by more than 5 % of the range (``Insertion(max_points=points)`` inserts none).
        redistribute_every: steps between redistributions of the points at equal arc length; 0 for none. None
            means 10, and 0 with ``paper`` and ``spring``.
        focus: makes points denser where the path is high, after redistribution: the density is 1 + ``focus``
            h², where h is the height above the higher end as a fraction of the barrier (weighted string:
            E, Ren & Vanden-Eijnden 2007). 0 is equal arc length. None means 4 with exact gradients in up to
            48 dimensions, and 0 otherwise.
        points_per_step: number of moving points drawn at random in each step (section 1.2); None for all.
        max_move: longest displacement of a point in a step, in units of the distance to its nearer
            neighbour; None for no bound. ``paper`` has no bound.
        bezier_epochs: largest number of passes in which the curve of ``bezier`` is trained, with one point
            for each minibatch; None for at least 800 passes and at least 6,400 gradients, and with exact
            gradients in up to 1,000 dimensions for 1,600. Training ends earlier if the curve is as low as its
            higher end, or if it hardly falls any more (``starts.hand_over``).
        bezier_rate: first learning rate of the curve, in units of the root mean square difference of the
            coordinates of the two ends; None for 0.008, and for less in plain chains of more than five
            layers. Badly scaled coordinates have a unit each (``coordinate_units``).
        spring: stiffness of ``spring``, in units of loss over length squared.
        climbing_epochs: number of final epochs in which the highest point climbs.
        evaluate_every: epochs between two measurements of the dense maximum.
        heights: how the dense maximum is measured, a name of ``height_rules``: ``adaptive``, or ``paper`` for
            the grid of the paper.
        height_tolerance: tolerance of the dense maximum, a fraction of the range of losses.
        convergence_tolerance: a path has converged if its estimated further fall is below this fraction of
            its height above its higher end.

    Raises:
        ValueError: a value is not allowed; the message names the key, the value and what is allowed.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    points: int = 19
    start: str = "auto"
    force: str = "improved"
    epochs: int | None = None
    optimizer: OptimizerSettings | None = None
    schedule: Schedule | None = None
    l2: float = 0.0
    insertion: Insertion | None = None
    redistribute_every: int | None = None
    focus: float | None = None
    points_per_step: int | None = None
    max_move: float | None = 0.5
    bezier_epochs: int | None = None
    bezier_rate: float | None = None
    spring: float = 1.0
    climbing_epochs: int = 0
    evaluate_every: int = 10
    heights: str = "adaptive"
    height_tolerance: float = 1e-5
    convergence_tolerance: float = 0.01

    def __post_init__(self) -> None:
        if self.start != "auto":
            STARTS.check("start", self.start)
        TANGENTS.check("force", self.force)
        HEIGHTS.check("heights", self.heights)
        for key, least in _COUNTS.items():
            check_count(key, getattr(self, key), least)
        for key, positive in _NUMBERS.items():
            check_number(key, getattr(self, key), positive=positive)
        if self.climbing_epochs and not TANGENTS[self.force].method.climbs:
            raise ValueError(
                f"climbing_epochs is {self.climbing_epochs}, and no point climbs with force "
                f"{self.force!r}; set it to 0, or choose another force."
            )
        if self.insertion is not None and self.insertion.max_points < self.points:
            raise ValueError(
                f"insertion.max_points is {self.insertion.max_points}, below points = "
                f"{self.points}; raise it or start with fewer points."
            )

    def resolve(self, batches: int, dimension: int | None = None) -> "ResolvedSettings":
        """These settings on an objective, with the defaults filled in for None.

        Args:
            batches: minibatches in an epoch of the objective; 1 means exact gradients.
            dimension: number of parameters; None if the objective accepts any number.
        """
        method, exact = TANGENTS[self.force].method, batches == 1
        large = exact and dimension is not None and dimension > SMALL
        huge = large and dimension is not None and dimension > LARGE
        usual = OptimizerSettings("secant") if exact else OptimizerSettings("adam", lr=0.003)
        if large:
            usual = OptimizerSettings("scaled_adam", lr=0.3)
        start = method.start or ("saddles" if exact and not huge else "bezier")
        redistribute = _REDISTRIBUTE if method.redistributes else 0
        insertion = self.insertion
        if insertion is None and large and method.stops_early:
            most = max(_POINTS_LARGE, self.points)
            insertion = Insertion(_INSERT_EVERY, "residual", threshold=1.05, max_points=most)
        passes = max(_CURVE_PASSES, math.ceil(_CURVE_GRADIENTS / batches))
        if exact and not huge:
            passes = _CURVE_GRADIENTS_SEARCH
        most_steps = _STEPS_LARGE if huge else _STEPS_MEDIUM
        steps = most_steps if large else max(_EPOCHS, math.ceil(_STEPS / batches))
        return ResolvedSettings(
            settings=self,
            batches=batches,
            epochs=steps if self.epochs is None else self.epochs,
            optimizer=self.optimizer or method.optimizer or usual,
            schedule=self.schedule or method.schedule or Schedule("anneal"),
            redistribute_every=(
                redistribute if self.redistribute_every is None else self.redistribute_every
            ),
            focus=(_FOCUS if exact and not large else 0.0) if self.focus is None else self.focus,
            insertion=insertion,
            max_move=self.max_move if method.bounded else None,
            bezier_epochs=passes if self.bezier_epochs is None else self.bezier_epochs,
            start=start if self.start == "auto" else self.start,
        )


@dataclass(frozen=True)
class ResolvedSettings:
    """``settings`` on a given objective, with the defaults filled in.

    The fields that are not listed here are as in ``PathSettings``.

    Attributes:
        settings: the settings before the defaults were filled in.
        batches: minibatches in an epoch of the objective.
        insertion: None if no points are inserted.
        max_move: None if displacements are not bounded.
    """

    settings: PathSettings
    batches: int
    epochs: int
    optimizer: OptimizerSettings
    schedule: Schedule
    redistribute_every: int
    focus: float
    insertion: Insertion | None
    max_move: float | None
    bezier_epochs: int
    start: str

    @property
    def rule(self) -> TangentRule:
        """The tangent rule."""
        return TANGENTS[self.settings.force]

    @property
    def uses_units(self) -> bool:
        """Whether a path moves in units of its coordinates, if these are badly scaled: with the default
        optimiser, and with tangent rules that do not fix a published method."""
        default = self.settings.optimizer is None and self.rule.method.redistributes
        return default and self.epochs > 0

    @property
    def settles(self) -> bool:
        """Whether the run ends when the path no longer moves: if gradients are exact and no point is
        inserted."""
        return self.batches == 1 and self.insertion is None

    @property
    def trains_a_curve(self) -> bool:
        """Whether the initial path is a trained curve, which can be interrupted and resumed."""
        return STARTS[self.start].trains_a_curve

    @property
    def curve_passes(self) -> int:
        """Largest number of passes of a trained curve, with one gradient per minibatch; 0 for other
        starts."""
        return self.bezier_epochs if self.trains_a_curve else 0

    @property
    def most_points(self) -> int:
        """Largest number of points that a path can have."""
        return self.insertion.max_points if self.insertion else self.settings.points

    @property
    def climbs_from(self) -> int:
        """The first epoch in which the highest point climbs."""
        return self.epochs - min(self.settings.climbing_epochs, self.epochs)

    @property
    def depends_on_epochs_from(self) -> int:
        """The first epoch that would go differently if ``epochs`` were larger.

        A checkpoint of this epoch or an earlier one can be continued by a longer run. The last epoch
        is always different: it ends with a measurement and without an insertion.
        """
        return min(
            self.climbs_from,
            self.schedule.depends_on_epochs_from(self.epochs),
            max(0, self.epochs - 1),
        )
