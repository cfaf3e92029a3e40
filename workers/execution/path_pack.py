"""Optimise several paths together, which uses a GPU better than one path at a time.

The paths belong to one problem and have equal settings. Only the optimisation steps are shared
(`topo_core.paths.solver`). Each path has its own checkpoints and its own record, continues from its own
newest checkpoint, and may fail without an effect on the others. An error in a shared step cannot be
attributed to one path. If memory runs out, the step is repeated with half as many paths; after any other
error it is repeated with each path alone. The error is reported for the paths that still raise it.
"""

import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from topo_core.objectives.batching.memory_budget import MemoryParts
from topo_core.paths.starts.protocol import Start
from topo_core.paths.starts.trained_curves import CurveState
from topo_core.paths.state import PathState
from workers.execution.path_starts import initial_paths_of
from workers.execution.path_task import PathRun
from workers.execution.progress import Interrupted
from workers.execution.task_run import TaskContext
from workers.storage.objects import StoreFull, StoreUnreachable
from workers.storage.schema import PairRecord
from workers.tasks.path_tasks import OptimizePath

Outcome = tuple[OptimizePath, PairRecord | Exception]


def optimize_paths_together(
    tasks: Sequence[OptimizePath], context: TaskContext
) -> Iterator[Outcome]:
    """Optimise paths of one problem with equal settings.

    Yields:
        Each task with its outcome, as soon as it is known: the record of the path, or the exception that
        `optimize_one_path` would have raised.

    Raises:
        Interrupted: the worker was asked to stop; the last checkpoints are published.
    """
    context.progress.start(*(task.key for task in tasks))
    for outcome in _Pack(context, MemoryParts(None)).outcomes(tasks):
        context.progress.ended(outcome[0].key)
        yield outcome


@dataclass(frozen=True)
class _Path:
    run: PathRun
    state: PathState


@dataclass(frozen=True)
class _Pack:
    context: TaskContext
    parts: MemoryParts

    def outcomes(self, tasks: Sequence[OptimizePath]) -> Iterator[Outcome]:
        """Continue from the newest checkpoints, or begin with initial paths, and optimise to the end."""
        paths: list[_Path] = []
        fresh: list[tuple[PathRun, CurveState | None]] = []
        for task in tasks:
            try:
                run = PathRun(task, self.context)
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
    ) -> list[Start | Exception]:
        if not fresh:
            return []
        runs, begun = zip(*fresh, strict=True)
        tasks, seeds = [run.task for run in runs], [run.seed for run in runs]

        def keep(stop: Mapping[int, CurveState]) -> None:
            due = bool(stop) and self.context.progress.checkpoint_is_due()
            for at, curve in stop.items() if due else ():
                # A lost checkpoint costs a part of a curve. If the store stays unavailable, publishing the
                # path raises the error again, and it is reported then.
                with contextlib.suppress(StoreUnreachable, StoreFull):
                    runs[at].keep_curve(curve)
            # All checkpoints are published at this point, so that `share` may interrupt at the first path.
            for at, curve in stop.items():
                self.context.progress.share(tasks[at].key, runs[at].share(curve))

        solvers = [run.solver for run in runs]
        return initial_paths_of(tasks, self.context, solvers, seeds, begun, keep)

    def _to_the_ends(self, paths: Sequence[_Path]) -> Iterator[Outcome]:
        going = list(paths)
        while going:
            open_ = [path for path in going if not path.run.is_finished(path.state)]
            for path in going:
                if path.run.is_finished(path.state):
                    yield self._ended(path)
            if not open_:
                return
            going = []
            for advanced in self._one_epoch_further(open_):
                if isinstance(advanced, _Path):
                    going.append(advanced)
                else:
                    yield advanced
            # All checkpoints are published at this point, so that `share` may interrupt at the first path.
            for path in going:
                self.context.progress.share(path.run.task.key, path.run.share(path.state))

    def _one_epoch_further(self, paths: Sequence[_Path]) -> Iterator["_Path | Outcome"]:
        """Advance the paths with the fewest epochs by one epoch, and publish the checkpoints that are due."""
        until = min(path.state.epoch for path in paths) + 1
        device = paths[0].state.points.device
        parts = self.parts(len(paths), lambda at: self._advanced(paths[at], until), device=device)
        states = list(itertools.chain.from_iterable(parts))
        due = self.context.progress.checkpoint_is_due()
        for path, state in zip(paths, states, strict=True):
            if isinstance(state, Exception):
                yield path.run.task, state
                continue
            self.context.progress.path_epochs += state.epoch - path.state.epoch
            advanced = state.epoch > path.state.epoch
            yield (
                self._kept(path.run, state, due=due) if advanced or due else _Path(path.run, state)
            )

    def _advanced(self, paths: Sequence[_Path], until: int) -> list[PathState | Exception]:
        """For each path, its state at epoch `until`, or the error that it raises on its own.

        Raises:
            OutOfMemoryError: memory ran out with several paths; fewer of them may fit.
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

    def _kept(self, run: PathRun, state: PathState, *, due: bool) -> "_Path | Outcome":
        try:
            run.keep(state, due=due)
        except Exception as error:
            return run.task, error
        return _Path(run, state)

    def _ended(self, path: _Path) -> Outcome:
        try:
            return path.run.task, path.run.end(path.state)
        except Interrupted:
            raise
        except Exception as error:
            return path.run.task, error
