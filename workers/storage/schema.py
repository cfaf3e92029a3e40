"""The records of results: one dataclass for each kind, from which its Arrow schema follows.

The version is in every file; a reader refuses versions that it does not know.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from datetime import datetime
from typing import Any, ClassVar, TypeVar

import pyarrow as pa

from workers.storage.object_names import MINIMA, PATHS, SADDLES, SIMPLICES

SCHEMA_VERSION = 1
"""Of the files, not of the results: raised when a file could be misunderstood by an older program."""

VERSION_KEY = b"toscore.schema"


class SchemaError(ValueError):
    """The bytes are not those of a known file."""


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
    """Base of the records of all kinds.

    Class attributes:
        collection: name of the folder and the table of the records.
        folder: where the objects that they name lie.
        figure_column: the number that a barcode is made of.
    """

    collection: ClassVar[str]
    folder: ClassVar[str]
    figure_column: ClassVar[str]

    key: str = _column(pa.string())
    """Of the task: a hash of all that the result depends on."""
    object: str | None = _column(pa.string(), None)
    """Name of its object in the store."""
    worker: str = _column(pa.string(), "")
    lease_term: int = _column(pa.int32(), 0)
    seconds: float = _column(pa.float64(), 0.0)
    """Of work, on the worker that finished it."""
    finished_at: datetime | None = _column(_TIME, None)
    device: str = _column(pa.string(), "")
    """Name of the device that computed it: results of different devices may differ in their last bits."""
    strategy: str = _column(pa.string(), "")
    """Name of the evaluation strategy, see `Evaluation.strategy`."""

    @property
    def figure(self) -> float:
        """The number that a barcode is made of: loss, height or value."""
        return float(getattr(self, self.figure_column))


@dataclass(frozen=True, kw_only=True)
class MinimumRecord(ResultRecord):
    """A minimum. Losses are plain (no L2), over the whole set, accumulated in float64."""

    collection: ClassVar[str] = "minima"
    folder: ClassVar[str] = MINIMA
    figure_column: ClassVar[str] = "loss"

    index: int = _column(pa.int32())
    source: str = _column(pa.string())
    """`trained`, a dip in a path, a descent from a saddle, a restart from a checkpoint, or the file that it
    was imported from."""
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
    """What the point is, judged in float64 before it is rounded for the store: minimum, saddle, flat, kink,
    not stationary, unbounded, unsettled, not finite; empty where it was not judged."""
    verdict_reason: str = _column(pa.string(), "")
    gradient_tolerance: float = _column(pa.float64(), 0.0)
    """Gradient norm up to which it counts as stationary; 0 where it was not judged."""
    eigenvalues: Sequence[float] = _column(_FLOATS, ())
    """The lowest ones of the Hessian."""
    eigenvalue_bounds: Sequence[float] = _column(_FLOATS, ())
    """An eigenvalue lies within this distance of each."""
    zero_modes: int = _column(pa.int32(), 0)
    polished: bool = _column(pa.bool_(), False)
    judging_gradients: int = _column(pa.int64(), 0)
    """Gradients over the whole training set that polish and judgement took."""
    judging_products: int = _column(pa.int64(), 0)
    object: str = _column(pa.string())
    """Name of its parameters in the store."""


@dataclass(frozen=True, kw_only=True)
class PairRecord(ResultRecord):
    """A pass: the highest loss on the best known path between two minima."""

    collection: ClassVar[str] = "pairs"
    folder: ClassVar[str] = PATHS
    figure_column: ClassVar[str] = "height"

    i: int = _column(pa.int32())
    j: int = _column(pa.int32())
    a: str = _column(pa.string())
    b: str = _column(pa.string())
    height: float = _column(pa.float64())
    height_high: float = _column(pa.float64())
    """`height` and what sampling may have missed: an estimate; infinite where there is none."""
    grid_height: float = _column(pa.float64(), math.nan)
    """The highest loss at the points and at α ∈ {.2, .4, .6, .8} of each segment, as the paper reads it."""
    argmax_position: float = _column(pa.float64())
    positions: Sequence[float] = _column(_FLOATS)
    """Fractions of the arc length, 0 at `a` and 1 at `b`."""
    losses: Sequence[float] = _column(_FLOATS)
    outcome: str = _column(pa.string())
    reason: str = _column(pa.string())
    remaining_fall: float = _column(pa.float64())
    first_passage_a: float = _column(pa.float64())
    first_passage_b: float = _column(pa.float64())
    dips_a: bool = _column(pa.bool_())
    dips_b: bool = _column(pa.bool_())
    epochs: int = _column(pa.int32())
    points: int = _column(pa.int32())
    gradient_evaluations: int = _column(pa.int64())
    history: Sequence[Mapping[str, Any]] = _column(_HISTORY, ())
    # The object holds its points; there is none where paths are not kept.
    test_positions: Sequence[float] = _column(_FLOATS, ())
    """Of the points of the path: fractions of the arc length."""
    test_losses: Sequence[float] = _column(_FLOATS, ())
    """Loss on the test set there, without the ridge; empty where the problem has no test set."""
    quotient: bool = _column(pa.bool_(), False)
    """The path ends at `b` with hidden units renumbered: a height on the quotient by that symmetry."""


@dataclass(frozen=True, kw_only=True)
class SimplexRecord(ResultRecord):
    """An optimised r-simplex (section 1.4)."""

    collection: ClassVar[str] = "simplices"
    folder: ClassVar[str] = SIMPLICES
    figure_column: ClassVar[str] = "value"

    vertices: Sequence[int] = _column(pa.list_(pa.int32()))
    faces: Sequence[str] = _column(pa.list_(pa.string()))
    value: float = _column(pa.float64())
    """The highest loss on it, its faces included."""
    value_high: float = _column(pa.float64())
    """`value` and the estimate of what sampling may have missed."""
    own_maximum: float = _column(pa.float64())
    face_maxima: Sequence[float] = _column(_FLOATS)
    """Of each of `faces`, as it lies on the lattice: an edge is a polygon there."""
    outcome: str = _column(pa.string())
    reason: str = _column(pa.string())
    remaining_fall: float = _column(pa.float64())
    epochs: int = _column(pa.int32())
    gradient_evaluations: int = _column(pa.int64())
    history: Sequence[Mapping[str, Any]] = _column(_SIMPLEX_HISTORY, ())


@dataclass(frozen=True, kw_only=True)
class SaddleRecord(ResultRecord):
    """A path led over saddles: the stationary point at its highest point, and the path."""

    collection: ClassVar[str] = "saddles"
    folder: ClassVar[str] = SADDLES
    figure_column: ClassVar[str] = "loss"

    path: str = _column(pa.string())
    """Key of the path that was led over saddles."""
    i: int = _column(pa.int32())
    j: int = _column(pa.int32())
    loss: float = _column(pa.float64())
    peak_loss: float = _column(pa.float64())
    """Highest loss on the path before."""
    gradient_norm: float = _column(pa.float64())
    gradient_tolerance: float = _column(pa.float64())
    """Gradient norm up to which the point counts as stationary."""
    eigenvalues: Sequence[float] = _column(_FLOATS)
    """The lowest ones of the Hessian, increasing."""
    eigenvalue_bounds: Sequence[float] = _column(_FLOATS)
    """An eigenvalue lies within this distance of each."""
    index: int = _column(pa.int32())
    """Negative eigenvalues that are proved."""
    verdict: str = _column(pa.string())
    """`saddle`: stationary and proved to have index 1; or another verdict, such as `kink`."""
    reason: str = _column(pa.string())
    joins: Sequence[str] = _column(pa.list_(pa.string()))
    """Keys of two minima that are connected over it by points nowhere higher: those of the path where its
    highest point is the saddle, else those at which the descents end (empty: the run does not have it)."""
    ended: str = _column(pa.string(), "")
    """Why the work on the path ended: `verified` where its highest point is the saddle; else `no barrier`,
    `kink`, `no saddle`, `budget`, or `too large`."""
    rounds: int = _column(pa.int32(), 0)
    saddle_losses: Sequence[float] = _column(_FLOATS, ())
    """Of all saddles of index 1 that were reached from the path."""
    end_losses: Sequence[float] = _column(_FLOATS, ())
    """At the ends of their descents, two for each saddle; NaN where a descent did not reach a minimum."""
    ends: Sequence[str] = _column(pa.list_(pa.string()), ())
    """Keys of the minima there; empty for one that the run did not have."""
    height: float = _column(pa.float64(), math.nan)
    """Highest loss on the path that was led over the saddles; its points are in the object."""
    height_high: float = _column(pa.float64(), math.nan)
    """`height` and the estimate of what sampling may have missed."""
    argmax_position: float = _column(pa.float64(), math.nan)
    positions: Sequence[float] = _column(_FLOATS, ())
    losses: Sequence[float] = _column(_FLOATS, ())
    first_passage_a: float = _column(pa.float64(), math.nan)
    first_passage_b: float = _column(pa.float64(), math.nan)
    dips_a: bool = _column(pa.bool_(), False)
    dips_b: bool = _column(pa.bool_(), False)
    points: int = _column(pa.int32(), 0)
    gradients: int = _column(pa.int64())
    """Over the whole training set, of relaxing, searches, classification and descents."""
    products: int = _column(pa.int64())
    """Hessian-vector products of the same."""


R = TypeVar("R", bound=ResultRecord)
KINDS: dict[str, type[ResultRecord]] = {
    kind.collection: kind for kind in (MinimumRecord, PairRecord, SimplexRecord, SaddleRecord)
}
"""The kinds of records by collection."""


def arrow_schema(kind: type[ResultRecord]) -> pa.Schema:
    """The columns of a kind, in the order of its fields; the version is in the metadata."""
    columns = [pa.field(f.name, f.metadata["arrow"]) for f in fields(kind)]
    return pa.schema(columns, metadata={VERSION_KEY: str(SCHEMA_VERSION).encode()})


def list_columns(kind: type[ResultRecord]) -> tuple[str, ...]:
    """The columns of a kind that hold lists: profiles and histories."""
    return tuple(f.name for f in fields(kind) if pa.types.is_list(f.metadata["arrow"]))
