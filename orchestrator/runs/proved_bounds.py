"""Proved upper bounds on the heights at which the finite bars of a run end."""

from collections.abc import Iterator
from dataclasses import dataclass

from orchestrator.run_file.errors import UserError
from orchestrator.runs.stored_run import StartedRun
from topo_core.objectives.interval_loss import IntervalLoss
from topo_core.paths.proved_bounds import ProvedBound, proved_maximum
from workers.problems.evaluation import Evaluation
from workers.problems.loaded_problem import load_problem

_TOLERANCE = (
    1e-3  # share of a bar's length by which its bound may exceed the highest evaluated loss
)


@dataclass(frozen=True)
class BoundedPath:
    """A path that ends a bar, with a bound on its height.

    Attributes:
        pair: numbers of its two minima.
        height: the highest loss measured on the path.
        bound: proved upper bound of the loss on its polygon.
    """

    pair: tuple[int, int]
    height: float
    bound: ProvedBound

    def __str__(self) -> str:
        i, j = self.pair
        loose = (
            "" if self.bound.tight else ", not tight: the search for a tighter one was cut short"
        )
        return f"path {i}-{j}: height {self.height:.6g}, proved upper bound {self.bound.upper:.6g}{loose}"

    def to_json(self) -> dict[str, object]:
        """One entry of ``bounds`` in the output of ``toscore reduce --prove --json``."""
        return {
            "pair": list(self.pair),
            "height": self.height,
            "upper": self.bound.upper,
            "tight": self.bound.tight,
        }


def proved_bounds(run: StartedRun) -> Iterator[BoundedPath]:
    """Bound the height of each path that ends a finite bar (elder rule), in the order of the bars.

    Paths whose points were not kept are skipped.

    Raises:
        UserError: no bound can be proved for the network or the loss of the run, or the code that the store
            names is not trusted.
        BadReference: the data or the network cannot be loaded on this machine.
    """
    run.check_code()
    landscape = run.landscape()
    loaded = load_problem(run.plan.problem, Evaluation())
    data = loaded.data
    try:
        loss = IntervalLoss(
            loaded.module,
            data.train_inputs,
            data.train_targets,
            loss=loaded.loss,
            ridge=loaded.ridge,
        )
    except ValueError as error:
        raise UserError(f"{run.location}: {error}.") from None
    for bar in landscape.barcodes["elder"].finite:
        record = landscape.passes.get(bar.saddle) if bar.saddle else None
        if record is None or record.object is None:
            continue
        points = run.store.read_path(record.object)["points"]
        tolerance = max(_TOLERANCE * bar.length, 1e-9 * abs(record.height))
        bound = proved_maximum(loss, points, tolerance=tolerance)
        yield BoundedPath((record.i, record.j), record.height, bound)
