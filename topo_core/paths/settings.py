"""How a path is optimised: the numbers, apart from the state and from the loop.

``PathSettings`` is what a user writes; ``PathSettings.resolve`` fills in what depends on the objective, once,
where the optimisation begins. Inside only ``Resolved`` travels.
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

# Defaults of settings that are None; docs/performance.md has the comparisons behind them.
_EPOCHS = 100  # at least
_STEPS = 2000  # at least, so that objectives with few minibatches get as many
_CURVE_PASSES = 200  # at least
_CURVE_GRADIENTS = 1600  # at least
LARGE = 1000
"""Dimensions above which a search for routes among minima costs more gradients than it is worth."""
SMALL = 128
"""Dimensions up to which that search comes first: most pairs of minima are joined over proved saddles."""
_STEPS_MEDIUM = 300  # in more than `SMALL`, after a curve and a search that take as much as 200
_STEPS_LARGE = 600  # exact gradients in more than `LARGE` dimensions
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

    A value of None depends on the objective or on the tangent rule, and is filled in by ``resolve``.

    Attributes:
        points: points of the starting path, the two ends included.
        start: how the starting path is made, a name of ``start_registry``. ``line`` is the
            paper's; ``bezier`` a trained curve of degree 4; ``routes`` the lowest of the line, of arches and
            of routes over other minima; ``saddles`` the lowest route over verified saddles, after which no
            step is needed.
            ``aligned``, ``through``, ``warm`` and ``moved`` name a path that the caller brings. ``auto`` is
            ``line`` with ``paper``, ``saddles`` for exact gradients in up to 1,000 dimensions, and
            ``bezier`` elsewhere.
        force: the tangent rule, a name of ``tangents.registry``.
        epochs: largest number of passes over the objective's minibatches; the run ends before when
            the path is as low as its higher end. 0 measures the starting path alone; None is for at
            least 100 epochs and 2,000 steps; with exact gradients in more than 128 dimensions 300, and
            in more than 1,000 dimensions 600.
        optimizer: None for Adam at 0.003 on minibatches (docs/performance.md has the
            comparison), for SGD at 0.05 with ``paper``, and where gradients are exact for
            ``secant`` in up to 128 dimensions and ``scaled_adam`` at 0.3 in more.
        schedule: None for a final annealing, and for a constant rate with ``paper``.
        l2: weight decay, added to gradients before the projection and to no reported loss. Paths
            between networks of a run have 1e-5 (section 1.2), a function of one's own has none.
        insertion: Algorithm 3; None for a fixed number of points, and with exact gradients in more than
            128 dimensions for midpoints, up to 37 points, where the loss on a segment rises above
            that of its ends (``Insertion(max_points=points)`` inserts none).
        redistribute_every: steps between redistributions at equal arc length, 0 for never;
            None for 10, and for never with ``paper`` and ``spring``.
        focus: how much denser points are at the highest point of a path than at its lowest, after
            redistribution: the density grows by up to this factor, with the square of the
            height (weighted string: E, Ren & Vanden-Eijnden 2007). 0 is equal arc length; None
            for 4 with exact gradients in up to 128 dimensions, and 0 elsewhere.
        points_per_step: moving points drawn at random in each step (section 1.2); None: all.
        max_move: longest displacement of a point in a step, in distances to its nearer
            neighbour; None for no bound. ``paper`` has none.
        bezier_epochs: largest number of passes in which the curve of ``bezier`` is trained, one
            point a minibatch; None for at least 200 passes and 1,600 gradients. A curve that is as low as
            its higher end ends before.
        bezier_rate: its first learning rate, in root mean squares of the coordinates' difference between
            the two ends; None for 0.008, and for less in plain chains of more than five layers.
        spring: stiffness of ``spring``, loss over length squared.
        climbing_epochs: last epochs in which the highest point climbs.
        evaluate_every: epochs between two measurements of the dense maximum.
        heights: ``adaptive``, or ``paper`` for its alpha grid; a name of ``height_rules``.
        height_tolerance: of the dense maximum, a fraction of the range of losses.
        convergence_tolerance: a path is converged when its further fall, extrapolated, is
            below this fraction of its height above its higher end.

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

    def resolve(self, batches: int, dimension: int | None = None) -> "Resolved":
        """These settings with every None that has a default filled in.

        Args:
            batches: minibatches in an epoch of the objective; 1 for exact gradients.
            dimension: number of parameters; None where the objective takes any.
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
        most_steps = _STEPS_LARGE if huge else _STEPS_MEDIUM
        steps = most_steps if large else max(_EPOCHS, math.ceil(_STEPS / batches))
        return Resolved(
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
class Resolved:
    """``settings`` on a given objective: what was None has its value.

    Attributes:
        batches: minibatches in an epoch of the objective.
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
    def settles(self) -> bool:
        """Whether a path that no longer moves ends the run: gradients are exact, and no point is inserted."""
        return self.batches == 1 and self.insertion is None

    @property
    def trains_a_curve(self) -> bool:
        """Whether the initial path is a trained curve, which can be interrupted and resumed."""
        return STARTS[self.start].trains_a_curve

    @property
    def curve_passes(self) -> int:
        """Largest number of passes of a trained curve, one gradient a minibatch; 0 for another start."""
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
