"""Read the results of a run from Python, without a cluster.

    run = load_run("runs/demo")
    run.losses                  # numpy [n], one for each minimum
    run.heights                 # numpy [n, n], infinite if no pass is known
    run.barcode("elder").bars   # tuple of topo_core bars
    run.loops(1).bars           # index 1, if the run file has `reduce: {max_index: 1}`
    run.path(0, 3).points       # numpy [k, d], read from the store at this call
    run.frame("bars")           # pandas; run.table("bars") is the same as a pyarrow table

A loaded run is a snapshot of its store; call `load_run` again for later results.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from torch import Tensor

from orchestrator.analysis.landscape import Landscape
from orchestrator.run_file.errors import UserError
from orchestrator.runs.stored_run import StartedRun, open_run
from orchestrator.runs.tables import TableName, table_of
from topo_core.homology.barcodes import Barcode, BarcodeMethod
from topo_core.homology.merge_trees import MergeTree, merge_tree
from topo_core.homology.persistent_homology import HomologyBarcode
from topo_core.paths.polyline import arc_positions, at_positions
from workers.storage.immutable_objects import Damaged
from workers.storage.objects import NotFound
from workers.storage.schema import MinimumRecord, PairRecord, SaddleRecord

Pair = tuple[int, int]


@dataclass(frozen=True)
class LoadedPath:
    """An optimised path. Its points are read from the store when they are first used.

    Attributes:
        pair: numbers of the two minima, the smaller first.
        record: the record of the path in the store.
    """

    pair: Pair
    record: PairRecord
    _run: StartedRun

    @property
    def height(self) -> float:
        """The highest loss measured on the path."""
        return self.record.height

    @property
    def positions(self) -> NDArray[np.float64]:
        """[m], the positions at which the loss was evaluated, as fractions of the arc length.

        Raises:
            UserError: the run has so many paths that their loss profiles were not read into memory.
        """
        if not len(self.record.positions):
            raise UserError(
                "The run has so many paths that their loss profiles were not loaded: read the columns "
                "positions and losses of its records/pairs/*.parquet, for example with DuckDB."
            )
        return np.asarray(self.record.positions)

    @property
    def losses(self) -> NDArray[np.float64]:
        """[m], the training loss at ``positions``."""
        return np.asarray(self.record.losses)

    @property
    def history(self) -> list[Mapping[str, Any]]:
        """The measurements during its optimisation, oldest first."""
        return list(self.record.history)

    @cached_property
    def _points(self) -> Tensor:
        if self.record.object is None:
            raise UserError(f"The points of path {_named(self.pair)} were not kept.")
        try:
            return self._run.store.read_path(self.record.object)["points"]
        except (Damaged, NotFound) as error:
            raise UserError(
                f"The points of path {_named(self.pair)} cannot be read ({error}): "
                "`toscore run` makes them again."
            ) from None

    @property
    def points(self) -> NDArray[Any]:
        """[k, d], the points of the path, the two minima included.

        Raises:
            UserError: the points were not kept, or are damaged.
        """
        return self._points.numpy()

    def at(self, position: float | Literal["peak"]) -> Tensor:
        """The point [d] of the polygon at a position.

        Args:
            position: a fraction of the arc length, or `peak` for the point of highest loss.

        Raises:
            UserError: the points were not kept or are damaged, or the position is not in [0, 1].
        """
        where = self.record.argmax_position if position == "peak" else float(position)
        if not 0 <= where <= 1:
            raise UserError(f"The position {where:g} is not on the path: give 0 to 1, or peak.")
        points = self._points
        wanted = points.new_tensor([where]).double()
        return at_positions(points, arc_positions(points), wanted)[0]


@dataclass(frozen=True)
class LoadedRun:
    """A snapshot of the results of a run. Minima have the numbers that the run file gives them.

    Attributes:
        started: the run, with its plan and its store.
        landscape: the results, read when the run was loaded.
    """

    started: StartedRun
    landscape: Landscape

    @property
    def name(self) -> str:
        return self.landscape.run

    @property
    def complete(self) -> bool:
        """Whether the store has all results that the run file asks for."""
        return self.landscape.complete

    @property
    def minima(self) -> Mapping[int, MinimumRecord]:
        """The records of the finished minima, by number."""
        return self.landscape.minima

    @cached_property
    def losses(self) -> NDArray[np.float64]:
        """[n], the losses of the minima by number; NaN for a minimum that is missing."""
        losses = self.landscape.losses
        return np.array(
            [losses.get(i, math.nan) for i in range(self.landscape.minima_expected)],
            dtype=np.float64,
        )

    @cached_property
    def heights(self) -> NDArray[np.float64]:
        """[n, n], symmetric matrix of pass heights: infinite if no pass is known, losses on the diagonal."""
        count = self.landscape.minima_expected
        matrix = np.full((count, count), np.inf)
        for (i, j), height in self.landscape.heights.items():
            matrix[i, j] = matrix[j, i] = height
        np.fill_diagonal(matrix, self.losses)
        return matrix

    @property
    def pairs(self) -> list[Pair]:
        """The pairs of minima with a finished path, sorted."""
        return sorted(self.landscape.passes)

    def path(self, i: int, j: int) -> LoadedPath:
        """The path between two minima; it starts at the minimum with the smaller number.

        Raises:
            UserError: the run has no finished path between them.
        """
        pair = (min(i, j), max(i, j))
        try:
            return LoadedPath(pair, self.landscape.passes[pair], self.started)
        except KeyError:
            raise UserError(
                f"{self.name} has no path between the minima {i} and {j}: "
                f"it has {len(self.landscape.passes)} others."
            ) from None

    @property
    def saddles(self) -> Mapping[Pair, SaddleRecord]:
        """The records of the paths that were refined to pass through a saddle, by pair.

        `path` returns the refined path of such a pair.
        """
        return self.landscape.saddles

    def saddle(self, i: int, j: int) -> dict[str, NDArray[Any]]:
        """The saddle of a path, and the descents from it, from the store.

        Returns:
            Arrays by name. `point` [1, d]: the stationary point. `descent 0` and `descent 1` [m, d]: the
            descents from it to both sides, present if it has index 1. `saddles` [k, d]: all saddles of index
            1 that were reached from the path. `ends` [2k, d]: the ends of their descents, two for each.

        Raises:
            UserError: the path was not refined to pass through a saddle, or its stored points are damaged.
        """
        pair = (min(i, j), max(i, j))
        record = self.saddles.get(pair)
        if record is None or record.object is None:
            raise UserError(
                f"{self.name} has no saddle of the path {_named(pair)}: set saddles.refine to all in its run "
                "file and run it again."
            )
        try:
            tensors = self.started.store.read_saddle(record.object)
        except (Damaged, NotFound) as error:
            raise UserError(
                f"The saddle of path {_named(pair)} cannot be read ({error}): `toscore run` makes it again."
            ) from None
        return {name: tensor.numpy() for name, tensor in tensors.items() if name != "points"}

    def paths(self) -> Iterator[LoadedPath]:
        """All finished paths, in the order of `pairs`."""
        return (self.path(*pair) for pair in self.pairs)

    def minimum(self, index: int) -> dict[str, Tensor]:
        """The state dict of a minimum, for `module.load_state_dict`.

        Raises:
            UserError: the minimum is missing or damaged.
        """
        try:
            return self.started.store.read_minimum(self.minima[index].object)
        except KeyError:
            raise UserError(f"{self.name} has no minimum {index} yet.") from None
        except (Damaged, NotFound) as error:
            raise UserError(
                f"Minimum {index} cannot be read ({error}): `toscore run` makes it again."
            ) from None

    def network_at(self, i: int, j: int, position: float | Literal["peak"]) -> dict[str, Tensor]:
        """The state dict of the network at a point of a path.

        Batch-norm statistics are computed over the training set, so the data and the code of the network must
        be on this machine.

        Args:
            i, j: numbers of the two minima.
            position: a fraction of the arc length from the minimum with the smaller number, or `peak`.

        Raises:
            UserError: there is no such path or position, the points were not kept, or the code that the store
                names is not trusted.
            BadReference: the data or the network cannot be loaded on this machine.
        """
        (state,) = self.networks_at(i, j, [position])
        return state

    def networks_at(
        self, i: int, j: int, positions: Iterable[float | Literal["peak"]]
    ) -> Iterator[dict[str, Tensor]]:
        """The state dicts at several points of a path, in the order of `positions`; see ``network_at``."""
        from workers.problems.evaluation import Evaluation
        from workers.problems.loaded_problem import load_problem

        path = self.path(i, j)
        points = [path.at(position) for position in positions]
        self.started.check_code()
        loaded = load_problem(self.started.plan.problem, Evaluation())
        for point in points:
            yield {k: v.contiguous() for k, v in loaded.state_dict(point).items()}

    def barcode(self, method: BarcodeMethod = "elder") -> Barcode:
        """The barcode of index 0, by the elder rule (`elder`) or by Algorithm 1 of the paper (`direct`)."""
        return self.landscape.barcodes[method]

    def to_score(self, method: BarcodeMethod = "elder") -> float:
        """Half the length of the longest finite bar of index 0; infinite if some minima are not connected."""
        return self.landscape.to_scores[method]

    @property
    def higher(self) -> Mapping[int, HomologyBarcode]:
        """The barcodes of index 1 and higher, by index; empty if the run file does not ask for them."""
        homology = self.landscape.homology
        return homology.barcodes if homology else {}

    def loops(self, index: int = 1) -> HomologyBarcode:
        """The barcode of an index above 0, from optimised simplices. `topo_core.to_score` accepts it.

        Raises:
            UserError: the run has no barcode of this index.
        """
        try:
            return self.higher[index]
        except KeyError:
            raise UserError(
                f"{self.name} has no barcode of index {index}: set reduce.max_index in its run file "
                "to it and run it again; index 0 is `barcode()`."
            ) from None

    @cached_property
    def merge_tree(self) -> MergeTree:
        """The merge tree (disconnectivity graph) of the finished minima and paths."""
        return merge_tree(self.landscape.losses, self.landscape.heights)

    def table(self, name: TableName) -> pa.Table:
        """A table of results.

        Args:
            name: one of

                - `minima`, `passes`, `simplices`: one row for each record.
                - `bars`: one row for each bar, with `index`, `method`, `birth` and `death` (infinity for an
                  infinite bar). `born` lists the minima of the simplex at which the bar is born; `killed`
                  those of the simplex that ends it (null for an infinite bar). For index 0, `minimum`,
                  `saddle_i` and `saddle_j` repeat them as numbers, and `ends_at` is the kind of the end if
                  peaks were refined. Methods of index 0 are `elder` and `direct` (barcodes of paths),
                  `saddles` (verified saddles only) and `quotient` (classes of symmetric copies); all bars of
                  the complex of optimised simplices have the method `simplices`.
                - `scores`: one row for each barcode, with its TO-score, its number of bars, its number of
                  bars of zero length, and its estimated sampling error (`epsilon`).
                - `profiles`: the loss along every path, one row for each evaluated point.

        Raises:
            UserError: there is no such table.
        """
        return table_of(self.landscape, name)

    def frame(self, name: TableName) -> Any:
        """A table of results as a pandas.DataFrame; see `table`.

        Raises:
            UserError: pandas is not installed, or there is no such table.
        """
        try:
            import pandas  # noqa: F401
        except ImportError:
            raise UserError("pandas is not installed: `pip install pandas`.") from None
        return self.table(name).to_pandas()


def load_run(run: str, *, trust_code: bool = False) -> LoadedRun:
    """Read the results of a run that was started before.

    Args:
        run: the folder or URL of the run, or its run file.
        trust_code: whether `network_at` may import the `module:callable` that the store names.

    Raises:
        UserError: there is no run.
    """
    started = open_run(str(run), trust_code=trust_code)
    return LoadedRun(started, started.landscape())


def _named(pair: Pair) -> str:
    return f"{pair[0]}–{pair[1]}"
