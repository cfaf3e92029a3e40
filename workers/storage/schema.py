"""The records of results: one dataclass for each kind of task, from which its Arrow schema is derived.

The schema version is in the metadata of every file; a reader refuses unknown versions.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from datetime import datetime
from functools import cache
from typing import Any, ClassVar, TypeVar

import pyarrow as pa

from workers.storage.object_names import MINIMA, PATHS, SADDLES, SIMPLICES

SCHEMA_VERSION = 1
"""Version of the file format. It is increased when an older program would misread a newer file."""

VERSION_KEY = b"toscore.schema"


class SchemaError(ValueError):
    """The bytes of an object are damaged, or are not a file of a known format and version."""


def _column(arrow: pa.DataType, default: Any = MISSING) -> Any:
    return (
        field(default=default, metadata={"arrow": arrow})
        if default is not MISSING
        else field(metadata={"arrow": arrow})
    )


_TIME = pa.timestamp("us", "UTC")
_FLOATS = pa.list_(pa.float64())

_TRAINING = pa.list_(
    pa.struct([("epoch", pa.int32()), ("loss", pa.float64()), ("rate", pa.float64())])
)

_SIMPLEX_HISTORY = pa.list_(
    pa.struct(
        [
            ("epoch", pa.int32()),
            ("rate", pa.float64()),
            ("max_loss", pa.float64()),
            ("dense_maximum", pa.float64()),
            ("normal_norm", pa.float64()),
            ("tangent_norm", pa.float64()),
            ("gradient_evaluations", pa.int64()),
        ]
    )
)

_HISTORY = pa.list_(
    pa.struct(
        [
            ("epoch", pa.int32()),
            ("rate", pa.float64()),
            ("max_loss", pa.float64()),
            ("dense_maximum", pa.float64()),
            ("normal_norm", pa.float64()),
            ("tangent_norm", pa.float64()),
            ("length", pa.float64()),
            ("stretch", pa.float64()),
            ("points", pa.int32()),
            ("gradient_evaluations", pa.int64()),
        ]
    )
)


@dataclass(frozen=True, kw_only=True)
class ResultRecord:
    """Base class of the records of all kinds.

    Class attributes:
        collection: name of the records' table, and of their folder below `records/`.
        folder: of the objects that the records name.
        figure_column: name of the column that barcodes use.
    """

    collection: ClassVar[str]
    folder: ClassVar[str]
    figure_column: ClassVar[str]

    key: str = _column(pa.string())
    """Key of the task: a hash of everything that the result depends on."""
    object: str | None = _column(pa.string(), None)
    """Name of the object with its tensors in the store; None if there is none."""
    worker: str = _column(pa.string(), "")
    lease_term: int = _column(pa.int32(), 0)
    seconds: float = _column(pa.float64(), 0.0)
    """Duration on the worker that finished the task; for one of p paths that ran together, divided by p."""
    finished_at: datetime | None = _column(_TIME, None)
    device: str = _column(pa.string(), "")
    """Name of the device that computed the result. Other devices may give other last bits."""
    strategy: str = _column(pa.string(), "")
    """Name of the evaluation strategy; see `Evaluation.strategy`."""

    @property
    def figure(self) -> float:
        """The number that barcodes use: loss of a minimum or saddle, height of a path or value of a
        simplex."""
        return float(getattr(self, self.figure_column))


@dataclass(frozen=True, kw_only=True)
class MinimumRecord(ResultRecord):
    """A minimum. Losses are means over a whole set, without weight decay, accumulated in float64."""

    collection: ClassVar[str] = "minima"
    folder: ClassVar[str] = MINIMA
    figure_column: ClassVar[str] = "loss"

    index: int = _column(pa.int32())
    source: str = _column(pa.string())
    """Where its initial point comes from: `trained` for initial weights; else a dip of a path, a descent from
    a saddle, a restart, or the location of the imported checkpoint."""
    loss: float = _column(pa.float64())
    test_loss: float = _column(pa.float64())
    accuracy: float = _column(pa.float64())
    test_accuracy: float = _column(pa.float64())
    gradient_norm: float = _column(pa.float64())
    epochs: int = _column(pa.int32())
    stop_reason: str = _column(pa.string())
    history: Sequence[Mapping[str, Any]] = _column(_TRAINING, ())
    ridge: float = _column(pa.float64(), 0.0)
    """The part of `loss` that is the ridge."""
    verdict: str = _column(pa.string(), "")
    """Classification of the point in float64, before it is rounded for the store: minimum, saddle, flat,
    kink, not stationary, unbounded, unsettled or not finite; empty if it was not classified."""
    verdict_reason: str = _column(pa.string(), "")
    gradient_tolerance: float = _column(pa.float64(), 0.0)
    """Gradient norm up to which the point counts as stationary; 0 if it was not classified."""
    eigenvalues: Sequence[float] = _column(_FLOATS, ())
    """The lowest eigenvalues of the Hessian."""
    eigenvalue_bounds: Sequence[float] = _column(_FLOATS, ())
    """An eigenvalue lies within this distance of each."""
    zero_modes: int = _column(pa.int32(), 0)
    """Directions without curvature at a stationary point, among those looked at."""
    symmetry_modes: int = _column(pa.int32(), 0)
    """How many of them are directions of exact symmetries; `verdict_reason` names these."""
    training_gradients: int = _column(pa.int64(), 0)
    """Number of minibatch gradients of the training."""
    polished: bool = _column(pa.bool_(), False)
    judging_gradients: int = _column(pa.int64(), 0)
    """Number of gradients over the whole training set in the polish and the classification."""
    judging_products: int = _column(pa.int64(), 0)
    """Number of Hessian-vector products in both."""
    object: str = _column(pa.string())
    """Name of its parameters in the store."""


@dataclass(frozen=True, kw_only=True)
class MeasuredPath(ResultRecord):
    """The columns of a path between two minima and of its loss. A path that was not measured has
    `UNMEASURED`."""

    i: int = _column(pa.int32())
    j: int = _column(pa.int32())
    height: float = _column(pa.float64())
    """The highest loss on the path."""
    height_high: float = _column(pa.float64())
    """`height` plus an estimate of the sampling error; infinite if there is no estimate."""
    argmax_position: float = _column(pa.float64())
    positions: Sequence[float] = _column(_FLOATS)
    """Fractions of the arc length, 0 at `i` and 1 at `j`."""
    losses: Sequence[float] = _column(_FLOATS)
    first_passage_a: float = _column(pa.float64())
    first_passage_b: float = _column(pa.float64())
    dips_a: bool = _column(pa.bool_())
    dips_b: bool = _column(pa.bool_())
    points: int = _column(pa.int32())

    @property
    def measures(self) -> dict[str, Any]:
        """The columns that depend on the points of the path, by name."""
        return {name: getattr(self, name) for name in UNMEASURED}


UNMEASURED: Mapping[str, Any] = {
    "height": math.nan,
    "height_high": math.nan,
    "argmax_position": math.nan,
    "positions": (),
    "losses": (),
    "first_passage_a": math.nan,
    "first_passage_b": math.nan,
    "dips_a": False,
    "dips_b": False,
    "points": 0,
}
"""The columns of `MeasuredPath` that depend on the points of the path, if there are none."""


@dataclass(frozen=True, kw_only=True)
class PairRecord(MeasuredPath):
    """An optimised path between two minima, whose highest point approximates a mountain pass."""

    collection: ClassVar[str] = "pairs"
    folder: ClassVar[str] = PATHS
    figure_column: ClassVar[str] = "height"

    a: str = _column(pa.string())
    b: str = _column(pa.string())
    grid_height: float = _column(pa.float64(), math.nan)
    """The highest loss at the points and at α ∈ {.2, .4, .6, .8} of each segment, as the paper defines it."""
    outcome: str = _column(pa.string())
    reason: str = _column(pa.string())
    remaining_fall: float = _column(pa.float64())
    epochs: int = _column(pa.int32())
    gradient_evaluations: int = _column(pa.int64())
    history: Sequence[Mapping[str, Any]] = _column(_HISTORY, ())
    # The object holds the points of the path; it is None if paths are not kept.
    test_positions: Sequence[float] = _column(_FLOATS, ())
    """Positions of the path's points, as fractions of the arc length."""
    test_losses: Sequence[float] = _column(_FLOATS, ())
    """Loss at these positions on the test set, without the ridge; empty for a loss of the parameters
    alone."""
    quotient: bool = _column(pa.bool_(), False)
    """Whether the path ends at `b` with its hidden units permuted. Then the height is that of a path in the
    quotient by the permutation symmetry."""


@dataclass(frozen=True, kw_only=True)
class SimplexRecord(ResultRecord):
    """An optimised r-simplex (section 1.4)."""

    collection: ClassVar[str] = "simplices"
    folder: ClassVar[str] = SIMPLICES
    figure_column: ClassVar[str] = "value"

    vertices: Sequence[int] = _column(pa.list_(pa.int32()))
    faces: Sequence[str] = _column(pa.list_(pa.string()))
    value: float = _column(pa.float64())
    """The highest loss on the simplex, including its faces."""
    value_high: float = _column(pa.float64())
    """`value` with an estimate of the sampling error."""
    own_maximum: float = _column(pa.float64())
    face_maxima: Sequence[float] = _column(_FLOATS)
    """The highest loss on each of `faces`, resampled on the lattice of the simplex; an edge is a polyline
    there."""
    outcome: str = _column(pa.string())
    reason: str = _column(pa.string())
    remaining_fall: float = _column(pa.float64())
    epochs: int = _column(pa.int32())
    gradient_evaluations: int = _column(pa.int64())
    history: Sequence[Mapping[str, Any]] = _column(_SIMPLEX_HISTORY, ())


@dataclass(frozen=True, kw_only=True)
class SaddleRecord(MeasuredPath):
    """A refined path, whose points are in the object, and the stationary point at its highest point."""

    collection: ClassVar[str] = "saddles"
    folder: ClassVar[str] = SADDLES
    figure_column: ClassVar[str] = "loss"

    path: str = _column(pa.string())
    """Key of the path that was refined."""
    loss: float = _column(pa.float64())
    peak_loss: float = _column(pa.float64())
    """Highest loss on the path before the refinement."""
    gradient_norm: float = _column(pa.float64())
    gradient_tolerance: float = _column(pa.float64())
    """Gradient norm up to which the point counts as stationary."""
    eigenvalues: Sequence[float] = _column(_FLOATS)
    """The lowest eigenvalues of the Hessian, increasing."""
    eigenvalue_bounds: Sequence[float] = _column(_FLOATS)
    """An eigenvalue lies within this distance of each."""
    index: int = _column(pa.int32())
    """Number of eigenvalues that are proved to be negative."""
    verdict: str = _column(pa.string())
    """`saddle`: stationary and proved to have index 1; or another verdict, such as `kink`."""
    reason: str = _column(pa.string())
    joins: Sequence[str] = _column(pa.list_(pa.string()))
    """Keys of two minima that are connected by a path on which the saddle is the highest point: the ends of
    the refined path if its highest point is the saddle, else the minima at which the descents from the saddle
    end (an empty string for a minimum that is not in the run)."""
    ended: str = _column(pa.string(), "")
    """Why the refinement ended: `verified` if the highest point of the path is the saddle; else `no barrier`,
    `kink`, `no saddle`, `budget` or `too large`."""
    rounds: int = _column(pa.int32(), 0)
    saddle_losses: Sequence[float] = _column(_FLOATS, ())
    """Losses of all saddles of index 1 that were found from the path."""
    end_losses: Sequence[float] = _column(_FLOATS, ())
    """Losses at the ends of their descents, two for each saddle; NaN if a descent did not reach a minimum."""
    ends: Sequence[str] = _column(pa.list_(pa.string()), ())
    """Keys of the minima at these ends; an empty string for a minimum that was not in the run."""
    gradients: int = _column(pa.int64())
    """Number of gradients over the whole training set in the relaxation, searches, classification and
    descents."""
    products: int = _column(pa.int64())
    """Number of Hessian-vector products in the same."""


R = TypeVar("R", bound=ResultRecord)
KINDS: dict[str, type[ResultRecord]] = {
    kind.collection: kind for kind in (MinimumRecord, PairRecord, SimplexRecord, SaddleRecord)
}
"""The classes of records, by collection."""


def arrow_schema(kind: type[ResultRecord]) -> pa.Schema:
    """The columns of a kind, in the order of its fields; the version is in the metadata."""
    return _arrow_schema(kind.collection)


@cache
def _arrow_schema(collection: str) -> pa.Schema:
    columns = [pa.field(f.name, f.metadata["arrow"]) for f in fields(KINDS[collection])]
    return pa.schema(columns, metadata={VERSION_KEY: str(SCHEMA_VERSION).encode()})


def list_columns(kind: type[ResultRecord]) -> tuple[str, ...]:
    """The columns of a kind that hold lists: profiles and histories."""
    return tuple(f.name for f in fields(kind) if pa.types.is_list(f.metadata["arrow"]))
