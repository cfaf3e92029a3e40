"""The state of a polish and its settings: values, so that every state is a checkpoint."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from torch import Tensor

from topo_core.critical_points.classification import ClassifySettings
from topo_core.critical_points.counting import length_scale
from topo_core.critical_points.kink_descent import KinkDescent
from topo_core.critical_points.lbfgs import CurvaturePairs
from topo_core.critical_points.verdicts import CriticalPoint

_LBFGS = 1000  # iterations of L-BFGS, at least

Phase = Literal["lbfgs", "newton", "kink", "judge", "done"]


@dataclass(frozen=True)
class PolishSettings:
    """What may be spent, and what counts as stationary.

    Attributes:
        lbfgs: iterations of L-BFGS, at most, after the start and after each saddle. None for 1,000, and for
            half the number of parameters where that is more: a network with 12,730 parameters on 4,000 images
            took 3,000 to 4,000.
        newton: iterations of Newton's method, at most, after each L-BFGS.
        products: Hessian–vector products in one of these.
        memory: pairs that L-BFGS remembers.
        leave: saddles that are left, at most.
        kink: steps of the descent along kinks, at most; 0 for none.
        whole: dimensions up to which there is such a descent, which takes the square of them in numbers.
        classify: how the result is judged; its tolerance is that of the polish.
    """

    lbfgs: int | None = None
    newton: int = 60
    products: int = 250
    memory: int = 20
    leave: int = 8
    kink: int = 4000
    whole: int = 512
    classify: ClassifySettings = field(default_factory=ClassifySettings)

    def __post_init__(self) -> None:
        for key, least in (
            ("lbfgs", 0),
            ("newton", 0),
            ("products", 1),
            ("memory", 1),
            ("leave", 0),
            ("kink", 0),
            ("whole", 0),
        ):
            value = getattr(self, key)
            if value is not None and value < least:
                raise ValueError(f"{key} is {value}; it must be {least} or more.")

    def lbfgs_iterations(self, dimension: int) -> int:
        """The largest number of iterations of L-BFGS on a loss of ``dimension`` parameters."""
        return max(_LBFGS, dimension // 2) if self.lbfgs is None else self.lbfgs


@dataclass(frozen=True)
class PolishState:
    """All that is needed to go on, bit for bit.

    Attributes:
        point: [d], the best so far.
        gradient: [d], there.
        start: [d], where the polish began.
        pairs: of L-BFGS.
        along: the memory of the descent along kinks.
        loss: at ``point``.
        phase: what the next iteration does.
        iteration: in the phase.
        radius: of the trust region.
        largest: the largest curvature that was seen.
        loss_rounding, gradient_rounding: as measured when the phase began.
        left: saddles that were left.
        gradients, products: spent so far.
        result: what the point is, once that is known; None after a checkpoint: it can be judged again.
    """

    point: Tensor
    gradient: Tensor
    start: Tensor
    pairs: CurvaturePairs
    along: KinkDescent
    loss: float
    phase: Phase
    iteration: int
    radius: float
    largest: float
    loss_rounding: float
    gradient_rounding: float
    left: int
    gradients: int
    products: int
    result: CriticalPoint | None = None

    def tensors(self) -> dict[str, Tensor]:
        """The tensors, all 2-D and of the dtype of the point."""
        return {
            "point": self.point[None],
            "gradient": self.gradient[None],
            "start": self.start[None],
            "moves": self.pairs.moves,
            "changes": self.pairs.changes,
            "inverse": self.along.inverse,
            "near_points": self.along.points,
            "near_gradients": self.along.gradients,
        }

    def scalars(self) -> dict[str, Any]:
        """Everything else, as JSON can write it."""
        names = (
            {one.name for one in fields(self)} - set(self.tensors()) - {"pairs", "along", "result"}
        )
        return {name: getattr(self, name) for name in sorted(names)}

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], scalars: Mapping[str, Any]) -> "PolishState":
        """The state that ``tensors()`` and ``scalars()`` came from."""
        return cls(
            point=tensors["point"][0],
            gradient=tensors["gradient"][0],
            start=tensors["start"][0],
            pairs=CurvaturePairs(tensors["moves"], tensors["changes"]),
            along=KinkDescent(
                tensors["inverse"], tensors["near_points"], tensors["near_gradients"]
            ),
            **scalars,
        )

    @property
    def done(self) -> bool:
        """Whether no iteration is left to do."""
        return self.phase == "done"

    @property
    def length(self) -> float:
        """The size of the parameters."""
        return length_scale(self.start, self.point)
