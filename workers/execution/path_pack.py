"""Run several `OptimizePath` of one kind together, as a GPU is well filled by them.

The paths share the steps (`topo_core.paths.solver`); everything else stays path by path, so that the unit of
completion is the pair: each has checkpoints and a record of its own, may begin where its last checkpoint
is, and may fail without harm to the others. What goes wrong in a shared step is not anybody's in
particular, so the paths then go on in two halves (memory ran out) or alone (anything else), and the error
is left with the one that makes it there.
"""

import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from topo_core.objectives.batching.memory_budget import Parts
from topo_core.paths.starts.trained_curves import CurveState
from topo_core.paths.state import PathState
from workers.execution.first_path import FirstPath, first_paths
from workers.execution.path_task import PathRun
from workers.execution.progress import Interrupted, Telling
from workers.problems.loaded_problem import Loaded
from workers.storage.objects import StoreFull, StoreUnreachable
from workers.storage.run_store import Store
from workers.storage.schema import PairRecord
from workers.tasks.tasks import OptimizePath

Outcome = tuple[OptimizePath, PairRecord | Exception]


def optimize_paths_together(
    tasks: Sequence[OptimizePath],
    loaded: Loaded,
    store: Store,
    telling: Telling,
    *,
    keep_points: bool = True,
) -> Iterator[Outcome]:
    """Optimise paths of one problem and with equal settings; each outcome as soon as it is there.

    An outcome is the record of a path that ended, or the exception with which `optimize_path_task` would
    have.

    Raises:
        Interrupted: asked to stop; the last checkpoints are published.
    """
    telling.start(*(task.key for task in tasks))
    walk = _Walk(loaded, store, telling, keep_points, Parts(None))
    for outcome in walk.of(tasks):
        telling.left(outcome[0].key)
        yield outcome


@dataclass(frozen=True)
class _Path:
    run: PathRun
    state: PathState


@dataclass(frozen=True)
class _Walk:
    loaded: Loaded
    store: Store
    telling: Telling
    keep_points: bool
    parts: Parts

    def of(self, tasks: Sequence[OptimizePath]) -> Iterator[Outcome]:
        """From the last checkpoints, or from first paths, to the ends."""
        paths: list[_Path] = []
        fresh: list[tuple[PathRun, CurveState | None]] = []
        for task in tasks:
            run = PathRun(task, self.loaded, self.store)
            try:
                state = run.resumed()
            except Exception as error:
                yield task, error
                continue
            if isinstance(state, PathState):
                paths.append(_Path(run, state))
            else:
                fresh.append((run, state))
        for (run, _), first in zip(fresh, self._firsts(fresh), strict=True):
            try:
                if isinstance(first, Exception):
                    raise first
                paths.append(_Path(run, run.begun(first)))
            except Exception as error:
                yield run.task, error
        yield from self._to_the_ends(paths)

    def _firsts(
        self, fresh: Sequence[tuple[PathRun, CurveState | None]]
    ) -> list[FirstPath | Exception]:
        if not fresh:
            return []
        runs, begun = zip(*fresh, strict=True)
        tasks, seeds = [run.task for run in runs], [run.seed for run in runs]

        def keep(stop: Mapping[int, CurveState]) -> None:
            for at, curve in stop.items():
                # Without it no more than a part of a curve can be lost; its path will say what is wrong.
                with contextlib.suppress(StoreUnreachable, StoreFull):
                    runs[at].keep_curve(curve)
            # All are kept by now, so stopping at the first loses none.
            for at, curve in stop.items():
                self.telling.share(tasks[at].key, runs[at].share(curve))

        solvers = [run.solver for run in runs]
        return first_paths(tasks, self.loaded, solvers, self.store, seeds, begun, keep)

    def _to_the_ends(self, paths: Sequence[_Path]) -> Iterator[Outcome]:
        going = list(paths)
        while going:
            open_ = [path for path in going if not path.run.finished(path.state)]
            for path in going:
                if path.run.finished(path.state):
                    yield self._ended(path)
            if not open_:
                return
            going = []
            for found in self._to_the_next_stop(open_):
                if isinstance(found, _Path):
                    going.append(found)
                else:
                    yield found
            for path in going:  # all are kept by now, so stopping at the first loses none
                self.telling.share(path.run.task.key, path.run.share(path.state))

    def _to_the_next_stop(self, paths: Sequence[_Path]) -> Iterator["_Path | Outcome"]:
        """Everybody as far as those that are furthest behind go before they are kept."""
        until = min(path.run.next_stop(path.state.epoch) for path in paths)
        device = paths[0].state.points.device
        parts = self.parts(len(paths), lambda at: self._advanced(paths[at], until), device=device)
        for path, state in zip(paths, itertools.chain.from_iterable(parts), strict=True):
            if isinstance(state, Exception):
                yield path.run.task, state
                continue
            self.telling.path_epochs += state.epoch - path.state.epoch
            yield self._kept(path.run, state, new=state.epoch > path.state.epoch)

    def _advanced(self, paths: Sequence[_Path], until: int) -> list[PathState | Exception]:
        """The states at epoch `until`, or why a path cannot go there alone.

        Raises:
            OutOfMemoryError: for several paths; fewer of them may fit.
        """
        try:
            return list(
                paths[0].run.solver.advance_together(
                    [path.state for path in paths],
                    [path.run.seed for path in paths],
                    until_epoch=until,
                )
            )
        except Exception as error:
            if len(paths) == 1:
                return [error]
            if isinstance(error, torch.OutOfMemoryError):
                raise
        return [state for path in paths for state in self._advanced([path], until)]

    def _kept(self, run: PathRun, state: PathState, *, new: bool) -> "_Path | Outcome":
        try:
            if new:
                run.keep(state)
        except Exception as error:
            return run.task, error
        return _Path(run, state)

    def _ended(self, path: _Path) -> Outcome:
        try:
            return path.run.task, path.run.ended(path.state, keep_points=self.keep_points)
        except Interrupted:
            raise
        except Exception as error:
            return path.run.task, error
