"""The state of the optimisation of a simplex: a checkpoint from which it continues bit for bit."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from topo_core.paths.updates.protocol import Slots
from topo_core.simplices.lattice import Lattice, lattice


@dataclass(frozen=True)
class SimplexMeasure:
    """A measurement at the end of an epoch.

    Attributes:
        epoch: epochs done.
        rate: learning rate of the last step.
        time: sum of the learning rates of all steps.
        max_loss: highest loss at an interior node, on the last minibatch.
        dense_maximum: highest loss on the simplex.
        normal_norm, tangent_norm: root mean square over the interior nodes of the two parts of
            the gradient in the last step.
        gradient_evaluations: rows whose gradient was evaluated so far.
    """

    epoch: int
    rate: float
    time: float
    max_loss: float
    dense_maximum: float
    normal_norm: float
    tangent_norm: float
    gradient_evaluations: int


@dataclass(frozen=True)
class SimplexState:
    """The state after a whole number of epochs.

    Attributes:
        points: [N, d], the nodes of the lattice in its order, boundary included. Never written to.
        slots: of the optimiser, [I, c] each, one row for each interior node.
        best: [N, d], the simplex with the lowest dense maximum so far.
        best_maximum: that maximum.
        best_epoch: the epoch after which it was measured.
        floor: highest loss on the faces; the simplex cannot be lower.
        tolerance: a maximum this close to ``floor`` is on the boundary.
        dimension: r.
        subdivisions: m.
        epoch: epochs done.
        steps: steps done.
        batches: minibatches in an epoch.
        time: sum of the learning rates.
        scale: factor on the gradients, where the settings leave the rate open; 0 before the first
            step.
        gradient_evaluations: rows whose gradient was evaluated.
        history: measurements, oldest first.
        failure: why the optimisation cannot continue; empty while it can.
    """

    points: Tensor
    slots: Slots
    best: Tensor
    best_maximum: float
    best_epoch: int
    floor: float
    tolerance: float
    dimension: int
    subdivisions: int
    epoch: int
    steps: int
    batches: int
    time: float
    scale: float
    gradient_evaluations: int
    history: tuple[SimplexMeasure, ...]
    failure: str

    @property
    def nodes(self) -> Lattice:
        """The lattice of ``points``."""
        return lattice(self.dimension, self.subdivisions)

    def tensors(self) -> dict[str, Tensor]:
        """The tensors, all 2-D and of the dtype of the points."""
        slots = {f"slots.{name}": rows for name, rows in self.slots.items()}
        return {"points": self.points, "best": self.best, **slots}

    def scalars(self) -> dict[str, Any]:
        """Everything else, as values that JSON can hold."""
        values = {
            name: getattr(self, name)
            for name in self.__dataclass_fields__
            if name not in ("points", "slots", "best", "history")
        }
        return {**values, "history": [asdict(measure) for measure in self.history]}

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], scalars: Mapping[str, Any]) -> "SimplexState":
        """The state that ``tensors()`` and ``scalars()`` came from."""
        prefix = "slots."
        slots = {
            name[len(prefix) :]: rows for name, rows in tensors.items() if name.startswith(prefix)
        }
        history = tuple(SimplexMeasure(**measure) for measure in scalars["history"])
        rest = {**scalars, "history": history}
        return cls(points=tensors["points"], best=tensors["best"], slots=slots, **rest)
