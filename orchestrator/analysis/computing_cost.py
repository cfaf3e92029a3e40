"""The computing cost of a run by kind of work: gradients, Hessian-vector products, and worker seconds."""

from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

from workers.storage.schema import MinimumRecord, PairRecord, SaddleRecord, SimplexRecord


@dataclass(frozen=True)
class CostRow:
    """The cost of one kind of work; None where a number does not apply.

    Attributes:
        work: name of the kind of work.
        tasks: number of tasks that did it.
        epochs: passes over the training set in minibatches.
        gradients: gradients at one point; those of training, paths and simplices are of one minibatch, all
            others of the whole training set.
        products: Hessian-vector products of the whole training set.
        seconds: time of workers; that of training includes polish and verification.
    """

    work: str
    tasks: int
    epochs: int | None
    gradients: int | None
    products: int | None
    seconds: float | None

    def to_json(self) -> dict[str, Any]:
        """The row as a dictionary, one entry of `cost`."""
        return asdict(self)


def cost_of(
    minima: Collection[MinimumRecord],
    paths: Collection[PairRecord],
    simplices: Collection[SimplexRecord],
    saddles: Collection[SaddleRecord],
) -> tuple[CostRow, ...]:
    """Compute the cost of each kind of work that the records show, in the order of a run."""
    judged = [record for record in minima if record.judging_gradients]
    rows = [
        CostRow(
            "training of minima",
            len(minima),
            sum(record.epochs for record in minima),
            sum(record.training_gradients for record in minima) or None,
            None,
            _seconds(minima),
        ),
        CostRow(
            "polish and verdicts of minima",
            len(judged),
            None,
            sum(record.judging_gradients for record in judged),
            sum(record.judging_products for record in judged),
            None,
        ),
        CostRow(
            "optimisation of paths",
            len(paths),
            None,
            sum(record.gradient_evaluations for record in paths),
            None,
            _seconds(paths),
        ),
        CostRow(
            "optimisation of simplices",
            len(simplices),
            None,
            sum(record.gradient_evaluations for record in simplices),
            None,
            _seconds(simplices),
        ),
        CostRow(
            "refinement of paths, verified saddles",
            len(saddles),
            None,
            sum(record.gradients for record in saddles),
            sum(record.products for record in saddles),
            _seconds(saddles),
        ),
    ]
    return tuple(row for row in rows if row.tasks)


def _seconds(
    records: Collection[MinimumRecord]
    | Collection[PairRecord]
    | Collection[SimplexRecord]
    | Collection[SaddleRecord],
) -> float:
    return sum(record.seconds for record in records)
