"""The task that follows the peak of a path to a saddle, and descends from it on both sides."""

import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from topo_core.critical_points.saddles import (
    Saddle,
    SaddleDescent,
    descend_both_sides,
    refine_saddle,
)
from topo_core.critical_points.verdicts import Verdict
from topo_core.paths.polyline import arc_positions, at_positions
from topo_core.paths.profiles import loss_profile
from topo_core.random_streams import seed_of
from workers.execution.stationarity import is_small
from workers.execution.task_run import Site
from workers.storage.schema import ResultRecord, SaddleRecord
from workers.tasks.saddle_tasks import RefineSaddle

SAME_POINT = 1e-3
"""Distance from a minimum, in lengths of its parameters, up to which a descent has ended there.

Minima are stored in the dtype of the run, which moves them by 1e-7 of that length, and a descent ends where
its fall is lost in rounding. Different minima of one loss are farther apart by orders of magnitude.
"""

SAME_LOSS = 1e-6
"""Relative difference of losses up to which a descent has ended at a minimum."""


SAME_HEIGHT = 1e-3
"""Share of the barrier by which the path may be higher than a saddle that counts as its highest point."""


@dataclass(frozen=True)
class Peak:
    """The highest point of a path.

    Attributes:
        point: [d].
        chord: [d], of the segment on which it lies.
        loss: there.
        barrier: above the higher end.
    """

    point: Tensor
    chord: Tensor
    loss: float
    barrier: float


def refine_one_saddle(task: RefineSaddle, site: Site) -> ResultRecord:
    """Follow the peak of a path to a stationary point, and find the minima that it joins.

    Raises:
        Damaged: the path or a minimum cannot be read.
    """
    peak = _peak(task, site)
    basis = SaddleRecord(
        key=task.key,
        i=task.i,
        j=task.j,
        path=task.path,
        verdict="no barrier",
        reason="an end of the path is its highest point",
        loss=peak.loss,
        peak_loss=peak.loss,
        gradient_norm=math.nan,
        gradient_tolerance=0.0,
        eigenvalues=(),
        eigenvalue_bounds=(),
        index=0,
        joins=(),
        gradients=0,
        products=0,
    )
    if not (peak.barrier > 0 and float(peak.chord.norm()) > 0):
        return basis
    if not is_small(site.loaded):
        reason = "the network and its data are too large for searches with exact gradients"
        return _with(basis, verdict="too large", reason=reason)
    objective = site.loaded.objective(len(site.loaded.data.train_inputs))
    seed = seed_of(task.seed, "saddle", task.key)
    saddle = refine_saddle(objective, peak.point, peak.chord, seed=seed)
    record = _with(basis, **_columns(saddle))
    tensors = {"point": saddle.point[None]}
    if saddle.is_pass:
        sides = descend_both_sides(objective, saddle)
        tensors |= {f"descent {k}": side.polyline for k, side in enumerate(sides)}
        joins = [_minimum_at(task, site, side) for side in sides]
        if "" in joins and _is_highest_point(saddle, peak):
            # The descents may end at minima between those of the run; the path goes on from there.
            joins = [task.a, task.b]
            reason = f"{record.reason}; it is the highest point of the path, which joins its ends"
            record = _with(record, reason=reason)
        record = _with(record, joins=joins)
    return _with(record, object=site.store.publish_saddle(task.key, tensors))


def _is_highest_point(saddle: Saddle, peak: Peak) -> bool:
    """Whether the path passes through the saddle and is nowhere higher, so that it joins its ends over it."""
    distance = float((saddle.point - peak.point).norm())
    return (
        distance <= SAME_POINT * float(peak.point.norm())
        and peak.loss - saddle.loss <= SAME_HEIGHT * peak.barrier
    )


def _peak(task: RefineSaddle, site: Site) -> Peak:
    """The highest point of the polygon of a path, in float64."""
    points = site.store.read_path(task.object_of(task.path))["points"]
    points = points.to(site.loaded.evaluation.device).double()
    objective = site.loaded.objective(len(site.loaded.data.train_inputs))
    profile = loss_profile(objective, points, heights="adaptive")
    position = profile.positions[profile.argmax].double()
    positions = arc_positions(points)
    right = int(torch.searchsorted(positions, position.to(positions)).clamp(1, len(points) - 1))
    (point,) = at_positions(points, positions, position.to(positions)[None])
    barrier = profile.maximum - float(max(profile.losses[0], profile.losses[-1]))
    return Peak(point, points[right] - points[right - 1], profile.maximum, barrier)


def _columns(saddle: Saddle) -> dict[str, object]:
    critical = saddle.critical
    verdict = critical.verdict.name.lower().replace("_", " ")
    if critical.verdict is Verdict.SADDLE and not saddle.is_pass:
        verdict = f"saddle of index {'' if critical.index_is_exact else '≥ '}{critical.index}"
    return {
        "verdict": verdict,
        "reason": str(critical),
        "loss": critical.loss,
        "gradient_norm": critical.gradient_norm,
        "gradient_tolerance": critical.tolerance,
        "eigenvalues": critical.eigenvalues,
        "eigenvalue_bounds": critical.residuals,
        "index": critical.index,
        "gradients": saddle.gradients,
        "products": saddle.products,
    }


def _minimum_at(task: RefineSaddle, site: Site, side: SaddleDescent) -> str:
    """Key of the minimum at which a descent ended; empty if it is none of the known minima.

    The minima of the path are compared first, the others only where the descent ended elsewhere.
    """
    if not side.converged:
        return ""
    end = side.polyline[-1]
    objective = site.loaded.objective(len(site.loaded.data.train_inputs))
    for key in (task.a, task.b, *task.others):
        point = site.loaded.flat(site.store.read_minimum(task.object_of(key))).to(end)
        if float((end - point).norm()) > SAME_POINT * float(point.norm()):
            continue
        loss = float(objective.losses(point[None])[0])
        if math.isclose(loss, side.loss, rel_tol=SAME_LOSS):
            return key
    return ""


def _with(record: SaddleRecord, **columns: object) -> SaddleRecord:
    return SaddleRecord(**{**asdict(record), **columns})
