"""Estimate the cost of a study before it starts: minima, paths, and floating-point operations.

PyTorch counts the operations of the forward pass of one example. A backward pass is counted as two forward
passes. Neither the data nor the device is needed.
"""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from orchestrator.planning.plan import Identity, Plan
from orchestrator.run_file.models import RunFile
from orchestrator.studies.study import Study
from workers.problems.data_sets import sizes
from workers.problems.networks import build
from workers.tasks.specs import DataSpec, NetworkSpec

PROFILE_POINTS = 4
"""Loss evaluations on each segment in one measurement of a path: α = 0, ¼, ½, ¾, before bisection."""


@dataclass(frozen=True)
class StudyCost:
    """The cost of a whole study; results that exist already are included.

    Attributes:
        runs, minima, paths: numbers over the whole study.
        gradients: gradient evaluations on paths, each of one point on one minibatch.
        operations: floating-point operations of training, path optimisation and measurements of paths.
    """

    runs: int
    minima: int
    paths: int
    gradients: int
    operations: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def study_cost(study: Study) -> StudyCost:
    """The total cost of all runs of a study.

    Raises:
        BadReference: a `module:callable` of the study cannot be imported.
    """
    return _total(_run_cost(cell.run) for cell in study.cells)


def _total(costs: Iterable[StudyCost]) -> StudyCost:
    rows = list(costs)
    return StudyCost(
        sum(c.runs for c in rows),
        sum(c.minima for c in rows),
        sum(c.paths for c in rows),
        sum(c.gradients for c in rows),
        sum(c.operations for c in rows),
    )


def _run_cost(run: RunFile) -> StudyCost:
    plan = Plan(run, Identity("", "", ("",) * len(run.minima.checkpoints)))
    examples = sizes(run.data).train
    forward = forward_operations(run.network, run.data)
    settings = plan.path_settings
    batches = math.ceil(examples / settings.batch_size)
    epochs = settings.resolve(batches).epochs
    moving = settings.points_per_step or settings.points - 2
    measured = (epochs // settings.evaluate_every + 1) * PROFILE_POINTS * settings.points
    on_path = 3 * epochs * moving + measured
    trained = sum(3 * t.epochs * n for t, n in Counter(run.minima.every_training).items())
    return StudyCost(
        runs=1,
        minima=run.minima.total,
        paths=plan.pair_count,
        gradients=plan.pair_count * epochs * batches * moving,
        operations=float(forward * examples * (trained + plan.pair_count * on_path)),
    )


@cache
def forward_operations(network: NetworkSpec, data: DataSpec) -> int:
    """Floating-point operations of the forward pass of one example; a multiply-add counts as two."""
    data_sizes = sizes(data)
    module = build(network, data_sizes.input_shape, data_sizes.classes).eval()
    dtype = torch.int64 if data.name == "text" else torch.float32
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(torch.zeros(1, *data_sizes.input_shape, dtype=dtype))
    return int(counter.get_total_flops())
