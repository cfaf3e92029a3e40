"""What the polish of a minimum and the refinement of a path cost in finished runs of the same problem.

Both end when a point is stationary, so nothing but experience says beforehand how much they take.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.run_file.errors import BadRunFile
from orchestrator.run_file.models import RunFile
from orchestrator.run_file.reading import parse
from workers.storage.immutable_objects import Damaged
from workers.storage.objects import NotWritable, StoreUnreachable
from workers.storage.open_objects import open_objects
from workers.storage.run_store import Store
from workers.storage.schema import SchemaError

MOST_RUNS = 30
"""Number of runs that are read, the newest first, so that a plan takes no longer in a folder of many runs."""

POLISH = "500 to 10,000"
REFINEMENT = "2,500 to 80,000"
"""Gradients and products of one task in the runs that the documentation describes, of networks with 7 to
12,730 parameters. No round of a refinement begins after 80,000 (`PassRefinement.budget`)."""


@dataclass(frozen=True)
class MeasuredCosts:
    """Gradients and Hessian-vector products of single tasks in other runs, added up for each task.

    Attributes:
        runs: names of the runs.
        polish: one number for each polished minimum, classification included.
        refinement: one number for each refined path.
    """

    runs: tuple[str, ...] = ()
    polish: tuple[int, ...] = ()
    refinement: tuple[int, ...] = ()

    def of_polish(self) -> str:
        """A clause on the cost of the polish of one minimum."""
        return self._clause(self.polish, POLISH)

    def of_refinement(self) -> str:
        """A clause on the cost of the refinement of one path."""
        return self._clause(self.refinement, REFINEMENT)

    def _clause(self, known: Sequence[int], otherwise: str) -> str:
        unit = "gradients and products each"
        if not known:
            return f"{otherwise} {unit} in the runs of the documentation"
        low, high = f"{min(known):,}", f"{max(known):,}"
        span = low if low == high else f"{low} to {high}"
        runs = ", ".join(self.runs[:3]) + (" and others" if len(self.runs) > 3 else "")
        return f"{span} {unit} in {runs}"


def measured_costs(run: RunFile) -> MeasuredCosts:
    """The costs in the runs of the same network, data and loss in the store folder of a run.

    Only folders are searched, and runs that cannot be read are left out.

    Args:
        run: the run whose cost is asked for; its own results count, too.
    """
    names, polish, refinement = list[str](), list[int](), list[int]()
    for store, name in _similar(run):
        mine = _spent(store, "minima", ("judging_gradients", "judging_products"), "polished")
        paths = _spent(store, "saddles", ("gradients", "products"), "rounds")
        if mine or paths:
            names.append(name)
        polish += mine
        refinement += paths
    return MeasuredCosts(tuple(names), tuple(polish), tuple(refinement))


def _similar(run: RunFile) -> Iterator[tuple[Store, str]]:
    folder = Path(run.store)
    if "://" in run.store or not folder.is_dir():
        return
    runs = [path for path in folder.iterdir() if path.is_dir()]
    runs.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in runs[:MOST_RUNS]:
        try:
            store = Store(open_objects(str(path)))
            config = store.latest_config()
            if config is not None and _problem(parse(config["run_file"])) == _problem(run):
                yield store, path.name
        except (NotWritable, StoreUnreachable, Damaged, SchemaError, BadRunFile, KeyError, OSError):
            continue


def _problem(run: RunFile) -> str:
    """What two runs must have in common: the network, the data, the loss, and whether it has a ridge."""
    parts: list[Any] = [run.network.canonical(), run.data.canonical(), run.loss.name]
    return json.dumps([*parts, run.loss.ridge > 0], default=str)


def _spent(store: Store, collection: str, columns: tuple[str, str], where: str) -> list[int]:
    """The sums of two columns in the rows of a collection in which the column `where` is not 0."""
    rows = store.table(collection, (*columns, where)).to_pylist()
    return [row[columns[0]] + row[columns[1]] for row in rows if row[where]]
