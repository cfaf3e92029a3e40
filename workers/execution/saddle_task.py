"""The task that refines a finished path, aiming at a verified saddle as its highest point."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from topo_core.objectives.network_loss import ModuleObjective
from topo_core.paths.pass_refinement import PassRefinement, advance_pass, init_pass
from topo_core.paths.pass_state import PassState, SearchResult
from topo_core.paths.profiles import loss_profile
from topo_core.random_streams import seed_of
from workers.execution.interruptible_loss import InterruptibleLoss
from workers.execution.measured_paths import measures_of
from workers.execution.stationarity import is_small, loss_tangents
from workers.execution.task_run import TaskContext, run_task
from workers.storage.schema import UNMEASURED, ResultRecord, SaddleRecord
from workers.tasks.saddle_tasks import RefineSaddle, are_equal_losses

SAME_POINT = 1e-3
"""Largest distance between the end of a descent and a minimum that count as one point, relative to the norm
of the minimum or to the distance of the saddle, whichever is larger: a minimum may lie at the origin.

Storing a minimum in float32 displaces it by about 1e-7 of its norm, and a descent stops where rounding hides
the decrease of the loss. The distance between different minima is larger by orders of magnitude.
"""


def refine_one_saddle(task: RefineSaddle, context: TaskContext) -> ResultRecord:
    """Refine a path, and find the minima at which the descents from its saddles end.

    A problem that is too large for exact gradients has a record with the verdict `too large`.

    Raises:
        Damaged: the path or a minimum cannot be read.
        Interrupted: the worker was asked to stop; the last checkpoint is published.
    """
    if not is_small(context.loaded):
        return _too_large(task)
    return run_task(SaddleRun(task, context), context.progress)


def _too_large(task: RefineSaddle) -> SaddleRecord:
    nothing = _Columns("too large", "the network and its data are too large for exact gradients")
    return nothing.record(task, ended="too large")


@dataclass(frozen=True)
class _Columns:
    """Defaults of the columns of a record, for a path without a stationary point at its highest point."""

    verdict: str
    reason: str
    loss: float = math.nan

    def record(self, task: RefineSaddle, **columns: Any) -> SaddleRecord:
        return SaddleRecord(
            **{
                "key": task.key,
                "i": task.i,
                "j": task.j,
                "path": task.path,
                "verdict": self.verdict,
                "reason": self.reason,
                "loss": self.loss,
                "peak_loss": self.loss,
                "gradient_norm": math.nan,
                "gradient_tolerance": 0.0,
                "eigenvalues": (),
                "eigenvalue_bounds": (),
                "index": 0,
                "joins": (),
                "gradients": 0,
                "products": 0,
                **UNMEASURED,
                **columns,
            }
        )


class SaddleRun:
    """The refinement of one path, with its checkpoints; see `TaskRun`. A step is one round.

    Args:
        task: the path to refine.
        context: the problem, the store and the progress.
    """

    def __init__(self, task: RefineSaddle, context: TaskContext) -> None:
        self.key = task.key
        self._task, self._context = task, context
        self._objective: ModuleObjective = context.loaded.objective(
            len(context.loaded.data.train_inputs)
        )
        self._interruptible = InterruptibleLoss(self._objective, context.progress)
        self._symmetries = loss_tangents(context.loaded, self._objective)
        self._settings = PassRefinement(rounds=task.rounds)
        self._seed = seed_of(task.seed, "saddle", task.key)

    def begin(self) -> PassState:
        checkpoint = self._context.store.latest_checkpoint(self.key)
        if checkpoint is not None:
            tensors = self._context.loaded.on_device(checkpoint.tensors)
            return PassState.restore(tensors, checkpoint.scalars)
        points = self._context.store.read_path(self._task.object_of(self._task.path))["points"]
        points = self._context.loaded.exact(points.to(self._context.loaded.evaluation.device))
        return init_pass(self._objective, points)

    def is_finished(self, state: PassState) -> bool:
        return bool(state.ended)

    def advance(self, state: PassState) -> PassState:
        return advance_pass(
            self._interruptible,
            state,
            self._settings,
            symmetries=self._symmetries,
            seed=self._seed,
        )

    def keep(self, state: PassState, *, due: bool) -> None:
        if due and not self.is_finished(state):
            self._context.store.publish_checkpoint(
                self.key, state.rounds, state.tensors(), state.scalars()
            )

    def share(self, state: PassState) -> float:
        """The share of the rounds that are done. Most paths are finished before the last round."""
        return state.rounds / self._settings.rounds

    def end(self, state: PassState) -> SaddleRecord:
        task = self._task
        no_barrier = _Columns(
            "no barrier", "an end of the path is its highest point", state.end_loss
        )
        if not state.rounds:
            return no_barrier.record(task, ended=state.ended)
        profile = loss_profile(self._objective, state.best)
        top = self._top(state)
        saddles = [result for result in state.results if result.is_pass]
        ends = [self._minima_at(saddle) for saddle in saddles]
        ended = {
            "ended": state.ended,
            "rounds": state.rounds,
            "peak_loss": state.first_height,
            **measures_of(profile, state.best),
            "saddle_losses": [saddle.loss for saddle in saddles],
            "end_losses": [
                loss if converged else math.nan
                for saddle in saddles
                for loss, converged in zip(saddle.end_losses, saddle.end_converged, strict=True)
            ],
            "ends": [key for both in ends for key in both],
            "gradients": state.gradients,
            "products": state.products,
            "object": self._context.store.publish_saddle(
                self.key, self._tensors(state, top, saddles)
            ),
        }
        if state.ended == "no barrier" or top is None:
            return no_barrier.record(task, **ended)
        joins: tuple[str, ...] = ()
        reason = top.reason
        if state.ended == "verified":
            joins = task.a, task.b
            reason = f"{reason}; it is the highest point of a path between both minima"
        elif top.is_pass:
            joins = ends[[id(saddle) for saddle in saddles].index(id(top))]
        point = {
            "loss": top.loss,
            "gradient_norm": top.gradient_norm,
            "gradient_tolerance": top.tolerance,
            "eigenvalues": top.eigenvalues,
            "eigenvalue_bounds": top.bounds,
            "index": top.index,
            "joins": joins,
        }
        return _Columns(top.verdict, reason).record(task, **{**ended, **point})

    def _top(self, state: PassState) -> SearchResult | None:
        """The saddle at the highest point of the path; without one, the result of the last search."""
        if state.ended == "verified":
            return state.highest_crossing
        return state.results[-1] if state.results else None

    def _tensors(
        self, state: PassState, top: SearchResult | None, saddles: list[SearchResult]
    ) -> dict[str, Tensor]:
        """The tensors of the object of a result.

        `points` [k, d] of the refined path; `point` [1, d] of the record and its `descent 0` and `descent 1`
        [m, d]; `saddles` [s, d] of index 1, and the `ends` [2 s, d] of their descents.
        """
        tensors = {"points": state.best}
        if top is not None and state.ended != "no barrier":
            tensors["point"] = top.point[None]
            tensors |= {f"descent {k}": side for k, side in enumerate(top.sides)}
        if saddles:
            tensors["saddles"] = torch.stack([saddle.point for saddle in saddles])
            tensors["ends"] = torch.stack([side[-1] for s in saddles for side in s.sides])
        return tensors

    def _minima_at(self, saddle: SearchResult) -> tuple[str, ...]:
        """Keys of the minima at which the descents from a saddle end; an empty string for an unknown
        minimum."""
        return tuple(
            self._minimum_at(side, loss, saddle.loss) if converged else ""
            for side, loss, converged in zip(
                saddle.sides, saddle.end_losses, saddle.end_converged, strict=True
            )
        )

    def _minimum_at(self, side: Tensor, loss: float, saddle: float) -> str:
        """Key of the known minimum at the end of a descent, or an empty string if there is none.

        Args:
            side: [m, d], the descent from the saddle.
            loss: at its end.
            saddle: loss of the saddle.

        The minima of the path are compared first, because most descents end there and every comparison reads
        an object of the store.
        """
        task, context, end = self._task, self._context, side[-1]
        distance = float((end - side[0]).norm())
        for key in (task.a, task.b, *task.others):
            point = context.loaded.flat(context.store.read_minimum(task.object_of(key))).to(end)
            if float((end - point).norm()) > SAME_POINT * max(float(point.norm()), distance):
                continue
            there = float(self._objective.losses(point[None])[0])
            if are_equal_losses(there, loss, saddle=saddle):
                return key
        return ""
