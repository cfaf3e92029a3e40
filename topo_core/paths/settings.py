"""How a path is optimised: the numbers, apart from the state and from the loop."""

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, get_args

from topo_core.paths.insertion_settings import Insertion
from topo_core.paths.schedules import Schedule
from topo_core.paths.update_settings import OptimizerSettings

ForceName = Literal["improved", "paper", "string", "spring"]
Heights = Literal["adaptive", "paper"]
StartName = Literal["auto", "line", "bezier", "routes", "aligned", "through", "warm"]

_EPOCHS = 100
_STEPS = 2000
_REDISTRIBUTE = 10
_FOCUS = 4.0


@dataclass(frozen=True)
class PathSettings:
    """Everything about the optimisation of one path, except its ends and its seed.

    What is None depends on the objective or on the force, and is filled in by ``resolve``.

    Attributes:
        points: points of the starting path, the two ends included.
        start: how the starting path is made. ``line`` is the paper's; ``bezier`` a trained
            curve of degree 4; ``routes`` the best of several bent starts. ``aligned``,
            ``through`` and ``warm`` name a path that the caller brings. ``auto`` is ``routes``
            for exact gradients, ``bezier`` for minibatches, and ``line`` with ``paper``.
        force: the rule of ``forces``.
        epochs: passes over the objective's minibatches, at most: a path that is as low as its higher end is
            done. 0 measures the starting path alone; None is for at least 100 epochs and 2,000 steps.
        optimizer: None for Adam at 0.003 on minibatches (docs/performance.md has the
            comparison), for SGD at 0.05 with ``paper``, and for ``secant`` where gradients are
            exact.
        schedule: None for a final annealing, and for a constant rate with ``paper``.
        l2: weight decay, added to gradients before the projection and to no reported loss.
        insertion: Algorithm 3; None for a fixed number of points.
        redistribute_every: steps between redistributions at equal arc length, 0 for never;
            None for 10, and for never with ``paper`` and ``spring``.
        focus: how much denser than at its lowest a path is at its highest place, after
            redistribution: the density grows by up to this factor, with the square of the
            height (weighted string: E, Ren & Vanden-Eijnden 2007). 0 is equal arc length; None
            for 0 on minibatches and 4 where gradients are exact.
        points_per_step: moving points drawn at random in each step (section 1.2); None: all.
        max_move: longest displacement of a point in a step, in distances to its nearer
            neighbour; None for no bound. ``paper`` has none.
        bezier_epochs: passes in which the curve of ``bezier`` is trained, one point a
            minibatch, at most: 200 cost as much as 12 passes of 17 points, and a curve that is as
            low as its higher end before is done.
        bezier_rate: its first learning rate, in root mean squares of the coordinates' difference between
            the two ends; None for 0.008, and for less in plain chains of more than five layers.
        spring: stiffness of ``spring``, loss over length squared.
        climbing_epochs: last epochs in which the highest point climbs.
        evaluate_every: epochs between two measurements of the dense maximum.
        heights: ``adaptive``, or ``paper`` for its alpha grid.
        height_tolerance: of the dense maximum, a fraction of the range of losses.
        convergence_tolerance: a path is converged when its further fall, extrapolated, is
            below this fraction of its height above its higher end.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    points: int = 19
    start: StartName = "auto"
    force: ForceName = "improved"
    epochs: int | None = None
    optimizer: OptimizerSettings | None = None
    schedule: Schedule | None = None
    l2: float = 1e-5
    insertion: Insertion | None = None
    redistribute_every: int | None = None
    focus: float | None = None
    points_per_step: int | None = None
    max_move: float | None = 0.5
    bezier_epochs: int = 200
    bezier_rate: float | None = None
    spring: float = 1.0
    climbing_epochs: int = 0
    evaluate_every: int = 10
    heights: Heights = "adaptive"
    height_tolerance: float = 1e-5
    convergence_tolerance: float = 0.01

    def __post_init__(self) -> None:
        for key, choices in (("start", StartName), ("force", ForceName), ("heights", Heights)):
            if getattr(self, key) not in get_args(choices):
                names = ", ".join(get_args(choices))
                raise ValueError(f"{key} is {getattr(self, key)!r}; choose one of {names}.")
        for key, least in (
            ("points", 3),
            ("epochs", 0),
            ("points_per_step", 1),
            ("redistribute_every", 0),
            ("climbing_epochs", 0),
            ("bezier_epochs", 1),
            ("evaluate_every", 1),
        ):
            count = getattr(self, key)
            if count is not None and count < least:
                raise ValueError(f"{key} is {count}; it must be {least} or more.")
        for key, open_end in (
            ("l2", False),
            ("spring", False),
            ("focus", False),
            ("max_move", True),
            ("bezier_rate", True),
            ("height_tolerance", True),
            ("convergence_tolerance", True),
        ):
            value = getattr(self, key)
            if value is None:
                continue
            if not math.isfinite(value) or value < 0 or (open_end and value == 0):
                bound = "above 0" if open_end else "0 or more"
                raise ValueError(f"{key} is {value}; it must be a finite number, {bound}.")
        if self.insertion is not None and self.insertion.max_points < self.points:
            raise ValueError(
                f"insertion.max_points is {self.insertion.max_points}, below points = "
                f"{self.points}; raise it or start with fewer points."
            )

    def resolve(self, batches: int) -> "Resolved":
        """These settings with every None that has a default filled in.

        Args:
            batches: minibatches in an epoch of the objective; 1 for exact gradients.
        """
        literal, exact = self.force == "paper", batches == 1
        schedule = Schedule("constant") if literal else Schedule("anneal")
        optimizer = OptimizerSettings("secant") if exact else OptimizerSettings("adam", lr=0.003)
        if literal:
            optimizer = OptimizerSettings("sgd", lr=0.05)
        start: StartName = "routes" if exact else "bezier"
        redistributed = self.force in ("improved", "string")
        return Resolved(
            settings=self,
            epochs=(
                max(_EPOCHS, math.ceil(_STEPS / batches)) if self.epochs is None else self.epochs
            ),
            optimizer=self.optimizer or optimizer,
            schedule=self.schedule or schedule,
            redistribute_every=(
                (_REDISTRIBUTE if redistributed else 0)
                if self.redistribute_every is None
                else self.redistribute_every
            ),
            focus=(_FOCUS if exact else 0.0) if self.focus is None else self.focus,
            max_move=None if literal else self.max_move,
            settles=exact and self.insertion is None,
            start=self.start if self.start != "auto" else "line" if literal else start,
        )

    def total_epochs(self, batches: int) -> int:
        """The epochs of a run on an objective with ``batches`` minibatches."""
        return self.resolve(batches).epochs

    def depends_on_epochs_from(self, batches: int) -> int:
        """The first epoch that would go differently if ``epochs`` were larger.

        A checkpoint of this epoch or an earlier one can be continued by a longer run. The last epoch
        is always different: it ends with a measurement and without an insertion.
        """
        resolved = self.resolve(batches)
        return min(
            resolved.climbs_from,
            resolved.schedule.depends_on_epochs_from(resolved.epochs),
            max(0, resolved.epochs - 1),
        )

    def with_epochs(self, epochs: int) -> "PathSettings":
        """The same settings for another number of epochs."""
        return replace(self, epochs=epochs)


@dataclass(frozen=True)
class Resolved:
    """``settings`` on a given objective: what was None has its value.

    Attributes:
        settles: whether a path at rest ends the run: exact gradients, and no point to come.
    """

    settings: PathSettings
    epochs: int
    optimizer: OptimizerSettings
    schedule: Schedule
    redistribute_every: int
    focus: float
    max_move: float | None
    settles: bool
    start: StartName

    @property
    def climbs_from(self) -> int:
        """The first epoch in which the highest point climbs."""
        return self.epochs - min(self.settings.climbing_epochs, self.epochs)
