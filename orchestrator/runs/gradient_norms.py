"""Norms of the tangential and normal components of the gradient along a stored path.

Appendix G of the paper shows them. The gradient is taken over the whole training set; its components are
defined as in Algorithm 2 of the paper.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from orchestrator.runs.stored_run import StartedRun
from topo_core.paths.chords import Chords
from topo_core.paths.descent_directions import descent_
from topo_core.paths.polyline import arc_positions
from topo_core.paths.tangents.paper import PAPER
from workers.problems.evaluation import Evaluation
from workers.problems.loaded_problem import load_problem


@dataclass(frozen=True)
class GradientNorms:
    """Norms of both components of the gradient at the m inner points of one path.

    Attributes:
        positions: [m], fractions of the arc length.
        tangent, normal: [m], norms of the tangential and of the normal component.
    """

    positions: Tensor
    tangent: Tensor
    normal: Tensor

    def root_mean_square(self, part: Tensor, *, middle: bool = False) -> float:
        """Root mean square of `tangent` or `normal`.

        Args:
            part: [m], one of the two.
            middle: use only the points in the middle third of the path.
        """
        chosen = (self.positions - 0.5).abs() <= 1 / 6 if middle else slice(None)
        return math.sqrt(float(part[chosen].double().square().mean()))


def gradient_norms(run: StartedRun) -> Iterator[GradientNorms]:
    """The norms on each path whose points are stored, in the order of the pairs.

    Raises:
        UserError: the code that the store names is not trusted.
        BadReference: the data or the network of the run cannot be loaded on this machine.
    """
    run.check_code()
    plan, landscape = run.plan, run.landscape()
    loaded = load_problem(plan.problem, Evaluation())
    objective = loaded.objective(plan.path_settings.batch_size)
    for _, record in sorted(landscape.passes.items()):
        if record.object is None:
            continue
        points = run.store.read_path(record.object)["points"]
        gradients = torch.stack([objective.full_gradient(p) for p in points[1:-1]])
        losses = objective.losses(points).to(points.dtype)
        # Replaces the gradients by their normal components; returns the norms of the tangential ones.
        tangent = descent_(PAPER, Chords.of(points), gradients, losses.unfold(0, 3, 1))
        normal = torch.linalg.vector_norm(gradients, dim=1)
        yield GradientNorms(arc_positions(points)[1:-1], tangent, normal)
