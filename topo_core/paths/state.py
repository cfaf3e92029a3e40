"""The state of the optimisation of a path: an immutable value, so every state is a checkpoint."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from topo_core.paths.profiles import Profile
from topo_core.paths.updates.protocol import Slots
from topo_core.paths.verified_pass import VerifiedPass


@dataclass(frozen=True)
class EpochRecord:
    """What was measured at the end of one epoch.

    Attributes:
        epoch: number of epochs done.
        rate: learning rate of the last step.
        time: sum of the learning rates of all steps, the time of the gradient flow.
        max_loss: highest loss at a point, on its most recent minibatch.
        dense_maximum: highest loss on the polygon.
        normal_norm, tangent_norm: root mean square over the moving points of the normal and
            the tangential part of the gradient in the last step.
        length: arc length of the path.
        stretch: length of the longest segment over that of the shortest.
        points: number of points.
        gradient_evaluations: number of rows whose gradient was evaluated so far.
        cut: fraction of the displacements of the last step that were cut to ``max_move``.
        normal_norms, tangent_norms: norms of the two parts of the gradient at each moving point in the last
            step, in the order of the path (Figures G.9 and G.8 of the paper); empty if not all points moved.
    """

    epoch: int
    rate: float
    time: float
    max_loss: float
    dense_maximum: float
    normal_norm: float
    tangent_norm: float
    length: float
    stretch: float
    points: int
    gradient_evaluations: int
    cut: float = 0.0
    normal_norms: tuple[float, ...] = ()
    tangent_norms: tuple[float, ...] = ()

    @classmethod
    def restore(cls, values: Mapping[str, Any]) -> "EpochRecord":
        """The record from ``values``, the output of ``asdict`` after a round trip through JSON."""
        norms: Any = {
            name: tuple(values.get(name, ())) for name in ("normal_norms", "tangent_norms")
        }
        return cls(**{**values, **norms})


@dataclass(frozen=True)
class PathState:
    """A checkpoint: the optimisation continues from it bit for bit.

    Attributes:
        points: [n, d], the ends included. Never written to.
        losses: [n, 1], the latest known loss at each point; the upwind tangent uses it.
        slots: tensors [n, c] of the optimiser, by name.
        best: [m, d], the path with the lowest dense maximum so far.
        best_maximum: that maximum.
        best_epoch: the epoch after which it was measured.
        best_profile: the losses along ``best``; None in a restored checkpoint, where they are measured again.
        chord: distance between the ends of the initial path.
        frozen: number of points next to each end that Algorithm 3 has removed from the optimisation.
        epoch: number of epochs done.
        steps: number of steps done.
        batches: minibatches in an epoch.
        time: sum of the learning rates.
        gradient_evaluations: number of rows whose gradient was evaluated.
        merged: number of coincident points dropped from the initial path.
        history: records, oldest first.
        failure: why the optimisation cannot continue; empty while it can.
        verified: the verification of the highest point of the initial path; None if there is none.
        units: [d], the units of the coordinates in which steps are taken (``coordinate_units``); None for
            the given coordinates. The slots are in these units, and all other tensors in given coordinates.
    """

    points: Tensor
    losses: Tensor
    slots: Slots
    best: Tensor
    best_maximum: float
    best_epoch: int
    chord: float
    frozen: int
    epoch: int
    steps: int
    batches: int
    time: float
    gradient_evaluations: int
    merged: int
    history: tuple[EpochRecord, ...]
    failure: str
    best_profile: Profile | None = None
    verified: VerifiedPass | None = None
    units: Tensor | None = None

    def tensors(self) -> dict[str, Tensor]:
        """The tensors, all 2-D and of the dtype of the points."""
        slots = {f"slots.{name}": rows for name, rows in self.slots.items()}
        units = {} if self.units is None else {"units": self.units[None]}
        return {"points": self.points, "losses": self.losses, "best": self.best, **slots, **units}

    def scalars(self) -> dict[str, Any]:
        """Everything except the tensors, as values that JSON can hold."""
        return {
            "best_maximum": self.best_maximum,
            "best_epoch": self.best_epoch,
            "chord": self.chord,
            "frozen": self.frozen,
            "epoch": self.epoch,
            "steps": self.steps,
            "batches": self.batches,
            "time": self.time,
            "gradient_evaluations": self.gradient_evaluations,
            "merged": self.merged,
            "history": [asdict(record) for record in self.history],
            "failure": self.failure,
            "verified": self.verified.scalars() if self.verified else None,
        }

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], scalars: Mapping[str, Any]) -> "PathState":
        """The state that ``tensors()`` and ``scalars()`` came from."""
        prefix = "slots."
        slots = {
            name[len(prefix) :]: rows for name, rows in tensors.items() if name.startswith(prefix)
        }
        return cls(
            points=tensors["points"],
            losses=tensors["losses"],
            best=tensors["best"],
            slots=slots,
            units=tensors["units"][0] if "units" in tensors else None,
            **{
                **scalars,
                "history": tuple(EpochRecord.restore(record) for record in scalars["history"]),
                "verified": VerifiedPass.restore(scalars["verified"]),
            },
        )
