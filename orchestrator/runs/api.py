"""A run from Python, without a cluster: `load_run("runs/demo")`.

    run = load_run("runs/demo")
    run.losses                  # numpy, one a minimum
    run.heights                 # numpy [n, n], infinite where no pass is known
    run.barcode("elder").bars   # as topo_core gives them
    run.loops(1).bars           # index 1, where the run file has `reduce: {max_index: 1}`
    run.path(0, 3).points       # numpy [k, d], read from the store when asked for
    run.frame("bars")           # pandas; run.table("bars") is the same for pyarrow

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
from topo_core.homology.barcodes import Barcode, Method
from topo_core.homology.merge_trees import MergeTree, merge_tree
from topo_core.homology.persistent_homology import HomologyBarcode
from topo_core.paths.polyline import arc_positions, at_positions
from workers.storage.immutable_objects import Damaged
from workers.storage.objects import NotFound
from workers.storage.schema import MinimumRecord, PairRecord, SaddleRecord

Pair = tuple[int, int]


@dataclass(frozen=True)
class LoadedPath:
    """An optimised path; its points stay in the store until they are asked for."""

    pair: Pair
    record: PairRecord
    _run: StartedRun

    @property
    def height(self) -> float:
        """The highest loss measured on it."""
        return self.record.height

    @property
    def positions(self) -> NDArray[np.float64]:
        """[m], where its loss was evaluated: fractions of the arc length.

        Raises:
            UserError: the run has so many paths that their profiles are left in the store.
        """
        if not len(self.record.positions):
            raise UserError(
                "Of so many paths the profiles are left in the store: read the columns positions and "
                "losses of its records/pairs/*.parquet, with DuckDB for instance."
            )
        return np.asarray(self.record.positions)

    @property
    def losses(self) -> NDArray[np.float64]:
        """[m], the loss there; see ``positions``."""
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
        """[k, d], its points, the two minima included.

        Raises:
            UserError: they were not kept, or are damaged.
        """
        return self._points.numpy()

    def at(self, position: float | Literal["peak"]) -> Tensor:
        """The point [d] of the polygon at a fraction of its arc length, or at its highest loss.

        Raises:
            UserError: as for ``points``; a position that is not in [0, 1].
        """
        where = self.record.argmax_position if position == "peak" else float(position)
        if not 0 <= where <= 1:
            raise UserError(f"The position {where:g} is not on the path: give 0 to 1, or peak.")
        points = self._points
        wanted = points.new_tensor([where]).double()
        return at_positions(points, arc_positions(points), wanted)[0]


@dataclass(frozen=True)
class LoadedRun:
    """A snapshot of the store of a run. Minima are numbered as in the run file."""

    started: StartedRun
    landscape: Landscape

    @property
    def name(self) -> str:
        return self.landscape.run

    @property
    def complete(self) -> bool:
        """Whether all results that the run file asks for exist."""
        return self.landscape.complete

    @property
    def minima(self) -> Mapping[int, MinimumRecord]:
        """Records of the finished minima, by number."""
        return self.landscape.minima

    @cached_property
    def losses(self) -> NDArray[np.float64]:
        """[n], losses of the minima by number; NaN where one is missing."""
        losses = self.landscape.losses
        return np.array(
            [losses.get(i, math.nan) for i in range(self.landscape.minima_expected)],
            dtype=np.float64,
        )

    @cached_property
    def heights(self) -> NDArray[np.float64]:
        """[n, n], symmetric; infinite where no pass is known, the diagonal the minima's losses."""
        count = self.landscape.minima_expected
        matrix = np.full((count, count), np.inf)
        for (i, j), height in self.landscape.heights.items():
            matrix[i, j] = matrix[j, i] = height
        np.fill_diagonal(matrix, self.losses)
        return matrix

    @property
    def pairs(self) -> list[Pair]:
        """The pairs with a path, in order."""
        return sorted(self.landscape.passes)

    def path(self, i: int, j: int) -> LoadedPath:
        """The path between two minima; it begins at the one with the smaller number.

        Raises:
            UserError: there is none.
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
        """The records of paths that were led over saddles, by pair; `path` has these paths as led."""
        return self.landscape.saddles

    def saddle(self, i: int, j: int) -> dict[str, NDArray[Any]]:
        """The points of the saddle of a path, from the store.

        Returns:
            `point` [1, d]; `descent 0` and `descent 1` [m, d], from it down on both sides, where it has index
            1; `saddles` [k, d] and `ends` [2k, d], all saddles of index 1 that were reached from the path and
            the ends of their descents.

        Raises:
            UserError: the path was not led over saddles, or its points are damaged.
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
        """All paths, in the order of `pairs`."""
        return (self.path(*pair) for pair in self.pairs)

    def minimum(self, index: int) -> dict[str, Tensor]:
        """The state dict of a minimum, for `module.load_state_dict`.

        Raises:
            UserError: it is missing or damaged.
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
        """The state dict of a point of a path, with batch-norm statistics of the training set.

        The network and the data are loaded for it, so this machine needs them.

        Raises:
            UserError: the points were not kept, or the code that the store names is not trusted.
        """
        (state,) = self.networks_at(i, j, [position])
        return state

    def networks_at(
        self, i: int, j: int, positions: Iterable[float | Literal["peak"]]
    ) -> Iterator[dict[str, Tensor]]:
        """The state dicts of several points of a path; see ``network_at``."""
        from workers.problems.evaluation import Evaluation
        from workers.problems.loaded_problem import load_problem

        path = self.path(i, j)
        points = [path.at(position) for position in positions]
        self.started.check_code()
        loaded = load_problem(self.started.plan.problem, Evaluation())
        for point in points:
            yield {k: v.contiguous() for k, v in loaded.state_dict(point).items()}

    def barcode(self, method: Method = "elder") -> Barcode:
        """Index 0, by the elder rule or by Algorithm 1 (`direct`)."""
        return self.landscape.barcodes[method]

    def to_score(self, method: Method = "elder") -> float:
        """Half the longest finite bar; infinite while some minima are not connected."""
        return self.landscape.to_scores[method]

    @property
    def higher(self) -> Mapping[int, HomologyBarcode]:
        """The barcodes of index 1 and more, by index; empty where the run does not ask for them."""
        homology = self.landscape.homology
        return homology.barcodes if homology else {}

    def loops(self, index: int = 1) -> HomologyBarcode:
        """The barcode of an index above 0, of optimised simplices; `to_score` of topo_core takes it.

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
        return merge_tree(self.landscape.losses, self.landscape.heights)

    def table(self, name: TableName) -> pa.Table:
        """A table of results.

        Args:
            name: `minima`, `passes` and `simplices` have a row a record; `bars` has `index`, `method`,
                `birth` and `death` (infinite bars: infinity), the minima of the simplex at which a
                bar is `born` and of the one at which it is `killed` (none for an infinite bar), and
                for index 0 the same as numbers: `minimum`, the pair `saddle_i`, `saddle_j`, and where
                peaks were followed what the bar `ends_at`; methods of index 0 are `elder` and `direct`
                (of paths), `saddles` (of verified saddles alone) and `quotient` (of classes of copies);
                `scores` has the TO-score of each barcode, its number of bars and of those of no length,
                and its estimated sampling error (`epsilon`); `profiles` has the loss along every path,
                a row a sample.

        Raises:
            UserError: there is no such table.
        """
        return table_of(self.landscape, name)

    def frame(self, name: TableName) -> Any:
        """The same as a pandas.DataFrame.

        Raises:
            UserError: pandas is not installed, or there is no such table.
        """
        try:
            import pandas  # noqa: F401
        except ImportError:
            raise UserError("pandas is not installed: `pip install pandas`.") from None
        return self.table(name).to_pandas()


def load_run(run: str, *, trust_code: bool = False) -> LoadedRun:
    """Read a run that was started.

    Args:
        run: its folder or URL, or its run file.
        trust_code: whether `network_at` may run the `module:callable` that the store names.

    Raises:
        UserError: there is none.
    """
    started = open_run(str(run), trust_code=trust_code)
    return LoadedRun(started, started.landscape())


def _named(pair: Pair) -> str:
    return f"{pair[0]}–{pair[1]}"
