"""Settings of the optimisation of a simplex."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from topo_core.paths.schedules import Schedule
from topo_core.paths.setting_checks import check_count, check_number
from topo_core.paths.update_settings import OptimizerSettings

_EPOCHS = 50  # default: at least this number of epochs,
_STEPS = 400  # and at least this number of steps, since with exact gradients an epoch is one step


@dataclass(frozen=True)
class SimplexSettings:
    """Everything about the optimisation of one simplex, except its faces and its seed.

    Attributes:
        subdivisions: m, cells along an edge of the lattice. Edges become polygons of m + 1 points,
            so a small m cuts the corners of a curved path.
        epochs: passes over the objective's minibatches; None for at least 50 epochs and 400 steps.
        optimizer: None for SGD, with rate 0.05 on minibatches. With exact gradients the rate is then chosen
            so that the node with the largest gradient first moves by a tenth of its spacing.
        schedule: of the learning rate.
        l2: weight decay, added to gradients before the projection and to no reported loss. Runs on
            networks use 1e-5, as the paper does; for other functions the default is 0.
        spread_every: steps between redistributions, in which each node moves within the tangent plane towards
            the mean of its neighbours, so that cells stay even; 0 for none.
        max_move: longest displacement of a node in a step, in distances to its nearest neighbour;
            None for no bound.
        grid: samples on an edge of a cell in a measurement, before it is refined.
        evaluate_every: epochs between two measurements of the dense maximum.
        height_tolerance: of the dense maximum, a fraction of the range of losses.
        convergence_tolerance: a simplex has converged when its further fall, extrapolated, is below
            this fraction of its height above the faces.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    subdivisions: int = 6
    epochs: int | None = None
    optimizer: OptimizerSettings | None = None
    schedule: Schedule = Schedule("anneal")
    l2: float = 0.0
    spread_every: int = 10
    max_move: float | None = 0.5
    grid: int = 4
    evaluate_every: int = 10
    height_tolerance: float = 1e-4
    convergence_tolerance: float = 0.01

    def __post_init__(self) -> None:
        for key, least in (
            ("subdivisions", 2),
            ("epochs", 1),
            ("spread_every", 0),
            ("grid", 1),
            ("evaluate_every", 1),
        ):
            check_count(key, getattr(self, key), least)
        for key, positive in (
            ("l2", False),
            ("max_move", True),
            ("height_tolerance", True),
            ("convergence_tolerance", True),
        ):
            check_number(key, getattr(self, key), positive=positive)

    def total_epochs(self, batches: int) -> int:
        """The epochs of a run on an objective with ``batches`` minibatches."""
        return self.epochs or max(_EPOCHS, math.ceil(_STEPS / batches))

    def scales(self, batches: int) -> bool:
        """Whether each simplex chooses its own rate at its first step."""
        return self.optimizer is None and batches == 1

    def method(self, batches: int) -> OptimizerSettings:
        """The optimiser on an objective with ``batches`` minibatches."""
        return self.optimizer or OptimizerSettings("sgd", lr=1.0 if batches == 1 else 0.05)
