"""Heights of paths as the repository of the paper's authors measures them.

They differ from ``PairRecord.height`` in three ways:

- The loss is evaluated only at α = ¼, ½, ¾ of each segment.
- It is evaluated on an eighth of the minibatches, drawn anew for each path.
- A weight penalty is added: 10⁻⁵ Σ‖θ‖ over the parameter tensors (norms, not squared norms).

The first two can miss the highest point; the third adds a number that grows with the network.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from orchestrator.pair_rules.path_requests import Pair
from orchestrator.runs.stored_run import StartedRun
from topo_core.homology.barcodes import Barcode, barcode
from topo_core.random_streams import generator
from workers.problems.evaluation import Evaluation
from workers.problems.loaded_problem import LoadedProblem, load_problem

ALPHAS = (0.25, 0.5, 0.75)
SHARE = 8
"""One in this many minibatches is used."""
L2 = 1e-5
"""Coefficient of the weight penalty."""


@dataclass(frozen=True)
class PublishedHeights:
    """The losses and heights of a run as the authors' repository measures them.

    Attributes:
        losses: losses of the minima by number, on an eighth of the minibatches and with the weight penalty.
        heights: heights of the paths whose points are stored, measured in the same way; at least the losses
            of both ends.
        plain: heights of the same paths in the records of the run, over the whole training set.
    """

    losses: dict[int, float]
    heights: dict[Pair, float]
    plain: dict[Pair, float]

    @cached_property
    def barcode(self) -> Barcode:
        """The barcode of these losses and heights by Algorithm 1 (`direct`)."""
        return barcode(self.losses, self.heights, "direct")


def published_heights(run: StartedRun) -> PublishedHeights:
    """Measure the minima and stored paths of a run as the authors' repository does.

    Raises:
        UserError: the code that the store names is not trusted.
        BadReference: the data or the network of the run cannot be loaded on this machine.
    """
    run.check_code()
    plan, landscape = run.plan, run.landscape()
    loaded = load_problem(plan.problem, Evaluation())
    batch_size = plan.path_settings.batch_size
    losses = {}
    for index, record in sorted(landscape.minima.items()):
        point = loaded.flat(run.store.read_minimum(record.object))[None]
        losses[index] = float(measured(loaded, point, batch_size, f"minimum {index}"))
    heights, plain = {}, {}
    for pair, path in sorted(landscape.passes.items()):
        if path.object is None:
            continue
        points = run.store.read_path(path.object)["points"]
        steps = points[1:] - points[:-1]
        between = torch.cat([points[:-1] + alpha * steps for alpha in ALPHAS])
        highest = float(measured(loaded, between, batch_size, f"path {pair}"))
        heights[pair] = max(highest, losses[pair[0]], losses[pair[1]])
        plain[pair] = landscape.heights[pair]
    return PublishedHeights(losses, heights, plain)


def measured(loaded: LoadedProblem, points: Tensor, batch_size: int, name: str) -> Tensor:
    """The largest loss of points [k, d] on an eighth of the minibatches, with the weight penalty; a scalar.

    Args:
        loaded: the data, the network and the loss.
        points: [k, d], flat parameter vectors.
        batch_size: number of examples in a minibatch.
        name: seeds the draw of the minibatches.
    """
    inputs, targets = loaded.data.train_inputs, loaded.data.train_targets
    batches = -(-len(inputs) // batch_size)
    draw = generator("published heights", name)
    chosen = torch.randperm(len(inputs), generator=draw)[: -(-batches // SHARE) * batch_size]
    losses, _ = loaded.objective(len(inputs)).measure(points, inputs[chosen], targets[chosen])
    norms = torch.stack(
        [
            sum(
                (
                    torch.linalg.vector_norm(view.double())
                    for view in loaded.layout.views(point).values()
                ),
                start=losses.new_zeros(()),
            )
            for point in points
        ]
    )
    return (losses + L2 * norms).max()
