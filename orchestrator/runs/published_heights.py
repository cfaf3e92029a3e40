"""Heights as the authors' repository measures them, beside the dense maxima of a run.

Three things differ from ``PairRecord.height``: the loss is evaluated at α = ¼, ½, ¾ of each segment and
nowhere else; on an eighth of the minibatches, drawn for each path; and with 10⁻⁵ Σ‖θ‖ over the tensors of the
network (norms, not their squares) added. The first two can miss the highest point, the third adds a number
that grows with the network.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from orchestrator.pair_rules.orders import Pair
from orchestrator.runs.stored_run import StartedRun
from topo_core.homology.barcodes import Barcode, barcode
from topo_core.random_streams import generator
from workers.problems.evaluation import Evaluation
from workers.problems.loaded_problem import Loaded, load_problem

ALPHAS = (0.25, 0.5, 0.75)
SHARE = 8
"""One in so many minibatches is used."""
L2 = 1e-5


@dataclass(frozen=True)
class PublishedHeights:
    """A run as the authors' repository measures it.

    Attributes:
        losses: of the minima, each on an eighth of the minibatches and with the term of the weights.
        heights: of the paths whose points were kept, likewise, never below the losses of their ends.
        plain: of the same paths, the dense maxima over the whole training set.
    """

    losses: dict[int, float]
    heights: dict[Pair, float]
    plain: dict[Pair, float]

    @cached_property
    def barcode(self) -> Barcode:
        """By direct paths (Algorithm 1)."""
        return barcode(self.losses, self.heights, "direct")


def published_heights(run: StartedRun) -> PublishedHeights:
    """Measure the minima and kept paths of a run as the authors' repository does.

    Raises:
        UserError: the store names code that is not trusted.
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


def measured(loaded: Loaded, points: Tensor, batch_size: int, name: str) -> Tensor:
    """The largest loss of points [k, d] on an eighth of the minibatches, with the term of the weights.

    Args:
        loaded: the problem.
        points: [k, d].
        batch_size: examples in a minibatch.
        name: decides which minibatches are drawn.
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
