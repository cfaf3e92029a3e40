"""The loss of a network on a data set as an `Objective`: k copies of one `nn.Module` at once.

Points are flat rows of the trainable parameters in the order of `module.named_parameters()`.

Batch norm: gradients use the statistics of their minibatch, as in training. A loss over the whole
training set recomputes the statistics at each point, over that set; running statistics of two networks
are never interpolated.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from topo_core.objectives.batching import Strategy
from topo_core.objectives.batching.channels_last import ChannelsLast, has_convolutions
from topo_core.objectives.batching.convolutional import Convolutional
from topo_core.objectives.batching.convolutional_plan import plan_of
from topo_core.objectives.batching.cuda_graphs import Graphed
from topo_core.objectives.batching.flat_parameters import ParameterLayout
from topo_core.objectives.batching.image_patches import Pixels, Planes
from topo_core.objectives.batching.linear import Linear, linear_layers
from topo_core.objectives.batching.linear_segments import LinearSegments
from topo_core.objectives.batching.literal import Literal
from topo_core.objectives.batching.matrix_products import has_onednn, onednn
from topo_core.objectives.batching.memory_budget import (
    Budgeted,
    BudgetedPaths,
    Parts,
    activation_bytes,
    budget,
)
from topo_core.objectives.batching.precision import arithmetic, check_precision
from topo_core.objectives.batching.several_paths import for_paths
from topo_core.objectives.batching.vmapped import Functional
from topo_core.objectives.precision_names import Precision
from topo_core.objectives.protocol import Step
from topo_core.random_streams import generator

STRATEGIES: dict[str, Callable[[nn.Module, ParameterLayout], Strategy]] = {
    "literal": Literal,
    "functional": Functional,
    "linear": Linear,
    "linear_onednn": lambda module, layout: Linear(module, layout, product=onednn),
    "convolutional": lambda module, layout: Convolutional(module, layout, micro_batch=32),
    "convolutional_pixels": lambda module, layout: Convolutional(
        module, layout, micro_batch=32, patches=Pixels()
    ),
    "convolutional_pixels_128": lambda module, layout: Convolutional(
        module, layout, micro_batch=128, patches=Pixels()
    ),
    "channels_last": ChannelsLast,
    "linear_graph": lambda module, layout: Graphed(Linear(module, layout)),
    "functional_graph": lambda module, layout: Graphed(Functional(module, layout)),
    "convolutional_graph": lambda module, layout: Graphed(Convolutional(module, layout)),
    "convolutional_planes_graph": lambda module, layout: Graphed(
        Convolutional(module, layout, patches=Planes())
    ),
    "channels_last_graph": lambda module, layout: Graphed(ChannelsLast(module, layout)),
}
"""How each strategy is made, by the name that runs record."""
_BATCHED = ("linear", "linear_onednn", "functional", "linear_graph", "functional_graph")
"""They hold the activations of all points of a call at once."""

CHUNK = 1000
"""Examples evaluated at once over a whole set: part of the definition of a loss with batch norm."""


def possible_strategies(
    module: nn.Module, device: str = "cpu", precision: Precision = "float32"
) -> tuple[str, ...]:
    """Strategies that this network allows on a kind of device, the likely fastest first.

    Those whose backward pass is written out do not know bf16.
    """
    if device == "cuda":
        own: tuple[str, ...] = ()
        if linear_layers(module) is not None and precision != "bf16":
            own = ("linear_graph", "linear")
        if plan_of(module) is not None and precision != "bf16":
            own = ("convolutional_planes_graph", "convolutional_graph")
        if has_convolutions(module):
            own += ("channels_last_graph", "channels_last")
        return (*own, "functional_graph", "functional", "literal")
    if linear_layers(module) is not None:
        own = ("linear", "linear_onednn") if has_onednn() else ("linear",)
        return (*own, "functional", "literal")
    if plan_of(module) is not None:
        own = ("convolutional_pixels", "convolutional_pixels_128", "convolutional")
        return (*own, "channels_last", "literal", "functional")
    if has_convolutions(module):
        return ("channels_last", "literal", "functional")
    return ("literal", "functional")


class ModuleObjective:
    """Mean cross entropy of a classifier.

    Args:
        module: the network; its parameters are not used, only their names and shapes.
        inputs, targets: training examples [n, ...] and classes [n].
        batch_size: of the minibatches; the last one of an epoch may be smaller.
        strategy: one of `possible_strategies`; None for the first of them.
        precision: of gradients on a GPU; losses are always measured in full.

    Attributes:
        depth: layers with weights of a plain chain of them; None with residuals, norms or anything else.
    """

    def __init__(
        self,
        module: nn.Module,
        inputs: Tensor,
        targets: Tensor,
        *,
        batch_size: int,
        strategy: str | None = None,
        precision: Precision = "float32",
    ) -> None:
        check_precision(precision, inputs.device)
        possible = possible_strategies(module, inputs.device.type, precision)
        name = strategy or possible[0]
        if name not in possible:
            raise ValueError(f"strategy is {name!r}; this network allows {', '.join(possible)}")
        self.layout = ParameterLayout.of(module)
        self.strategy, self.precision = name, precision
        plain = linear_layers(module) is not None or plan_of(module) is not None
        self.depth = sum(len(shape) > 1 for shape in self.layout.shapes) if plain else None
        self._inputs, self._targets = inputs, targets
        self._batch_size = min(batch_size, len(inputs))
        self._norms = [n for n, m in module.named_modules() if isinstance(m, _BatchNorm)]
        in_training, in_evaluation = deepcopy(module).train(), deepcopy(module).eval()
        for layer in in_training.modules():
            if isinstance(layer, _BatchNorm):  # statistics of the batch, and none kept
                layer.track_running_stats = False
                layer.running_mean = layer.running_var = layer.num_batches_tracked = None
        make = STRATEGIES[name]
        evaluation = make(in_evaluation, self.layout)
        inner = evaluation.inner if isinstance(evaluation, Graphed) else evaluation
        self._linear = inner if isinstance(inner, Linear) and inner.depth > 1 else None
        in_steps, in_chunks = self._points_at_once(name, in_evaluation)
        training = make(in_training, self.layout)
        self._training = Budgeted(training, in_steps)
        self._paths = BudgetedPaths(for_paths(training), self._training)
        self._evaluation = Budgeted(evaluation, in_chunks)
        self._statistics = _Statistics(module, self.layout) if self._norms else None
        self._order: tuple[tuple[tuple[int, int], ...], Tensor] | None = None

    def _points_at_once(self, name: str, module: nn.Module) -> tuple[int | None, int | None]:
        """Points whose activations on a minibatch, and on a chunk, are within the budget."""
        if name not in _BATCHED:
            return None, None
        each = activation_bytes(deepcopy(module), self._inputs[:1])
        fits = budget(self._inputs.device) // each
        return max(1, fits // self._batch_size), max(1, fits // min(CHUNK, len(self._inputs)))

    @property
    def dimension(self) -> int:
        return self.layout.dimension

    @property
    def batches(self) -> int:
        return math.ceil(len(self._inputs) / self._batch_size)

    def minibatch(self, step: Step) -> tuple[Tensor, Tensor]:
        """Inputs and targets of a step: an epoch visits each example once, in the step's own order."""
        chosen = self._chosen([step])[0]
        # Several times as fast as an index in brackets.
        return self._inputs.index_select(0, chosen), self._targets.index_select(0, chosen)

    def _chosen(self, steps: Sequence[Step]) -> Tensor:
        """The examples [p, b] of p steps that have one number of the batch."""
        epochs = tuple((step.seed, step.epoch) for step in steps)
        if self._order is None or self._order[0] != epochs:
            draws = (generator(seed, "batch", epoch) for seed, epoch in epochs)
            orders = [torch.randperm(len(self._inputs), generator=draw) for draw in draws]
            self._order = epochs, torch.stack(orders).to(self._inputs.device)
        (batch,) = {step.batch for step in steps}
        first = batch * self._batch_size
        return self._order[1][:, first : first + self._batch_size]

    def gradients(self, points: Tensor, step: Step) -> tuple[Tensor, Tensor]:
        """Losses [k] and gradients [k, d] on the minibatch of `step`."""
        with torch.no_grad(), arithmetic(self.precision, points.device):
            return self._training.gradients(points, *self.minibatch(step))

    def gradients_of_paths(self, points: Tensor, steps: Sequence[Step]) -> tuple[Tensor, Tensor]:
        """Losses [p, m] and gradients [p, m, d] of `points` [p, m, d], path i on the batch of `steps[i]`.

        The steps have one number of the batch, so that all batches are of one size.
        """
        with torch.no_grad(), arithmetic(self.precision, points.device):
            chosen = self._chosen(steps)
            return self._paths.gradients(points, self._inputs[chosen], self._targets[chosen])

    def losses(self, points: Tensor) -> Tensor:
        """Losses [k] over the training set, added up in float64."""
        with torch.no_grad(), arithmetic("float32", points.device):
            return torch.cat([self._losses(rows) for rows in points.split(_AT_ONCE)])

    def measure(self, points: Tensor, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Mean losses [k] and accuracies [k] (float64) of `points` on any examples.

        Batch-norm statistics come from the training set, whatever is measured.
        """
        with torch.no_grad(), arithmetic("float32", points.device):
            found = [self._measure(rows, inputs, targets) for rows in points.split(_AT_ONCE)]
        return torch.cat([f[0] for f in found]), torch.cat([f[1] for f in found])

    def _losses(self, points: Tensor) -> Tensor:
        total = torch.zeros(len(points), dtype=torch.float64, device=points.device)
        for logits, y in self._logits(points, self._inputs, self._targets):
            total += _summed_losses(logits, y)
        return total / len(self._inputs)

    def _measure(self, points: Tensor, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        total = torch.zeros(len(points), dtype=torch.float64, device=points.device)
        right = torch.zeros_like(total)
        for logits, y in self._logits(points, inputs, targets):
            total += _summed_losses(logits, y)
            right += (logits.argmax(-1) == y).sum(1)
        return total / len(inputs), right / len(inputs)

    def _logits(
        self, points: Tensor, inputs: Tensor, targets: Tensor
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Logits [k, n, classes] and targets [n] of the chunks of a set."""
        buffers = self._statistics.at(points, self._inputs) if self._statistics else None
        for x, y in zip(inputs.split(CHUNK), targets.split(CHUNK), strict=True):
            yield self._evaluation.logits(points, x, buffers), y

    def full_gradient(self, point: Tensor) -> Tensor:
        """Gradient [d] of the mean loss over the training set at `point` [d], by chunks.

        With batch norm each chunk has its own statistics, as a minibatch has.
        """
        total = torch.zeros_like(point, dtype=torch.float64)
        chunks = zip(self._inputs.split(CHUNK), self._targets.split(CHUNK), strict=True)
        with torch.no_grad(), arithmetic("float32", point.device):
            for x, y in chunks:
                total += self._training.gradients(point[None], x, y)[1][0].double() * len(x)
        return (total / len(self._inputs)).to(point.dtype)

    def statistics(self, point: Tensor) -> dict[str, Tensor]:
        """Batch-norm buffers at `point` [d], by name; empty for networks without."""
        if self._statistics is None:
            return {}
        with arithmetic("float32", point.device):
            buffers = self._statistics.at(point[None], self._inputs)
        return {name: rows[0] for name, rows in buffers.items()}

    def losses_on_segments(self, starts: Tensor, ends: Tensor, alphas: Tensor) -> Tensor:
        """Losses [s, m] (float64) on segments, the first layer shared where the network allows it."""
        if self._linear is not None:
            return self._shared(self._linear, starts, ends, alphas)
        weights = alphas.to(starts.dtype)[:, :, None]
        points = torch.lerp(starts[:, None], ends[:, None], weights).flatten(0, 1)
        return self.losses(points).view(alphas.shape)

    def _shared(self, linear: Linear, starts: Tensor, ends: Tensor, alphas: Tensor) -> Tensor:
        with torch.no_grad(), arithmetic("float32", starts.device):
            if starts.is_cuda:
                total = self._at_once(starts, ends, alphas)
            else:
                total = linear.losses_on_segments(starts, ends, alphas, self._inputs, self._targets)
        return total / len(self._inputs)

    def _at_once(self, starts: Tensor, ends: Tensor, alphas: Tensor) -> Tensor:
        """Summed losses [s, m] on segments, for a GPU: on as many of them as fit, all places at once."""
        linear, room = LinearSegments(self.layout), self._evaluation.parts.at_once
        parts = Parts(None if room is None else max(1, room // alphas.shape[1]))
        total = torch.zeros_like(alphas, dtype=torch.float64)
        for x, y in zip(self._inputs.split(CHUNK), self._targets.split(CHUNK), strict=True):

            def work(s: slice, x: Tensor = x, y: Tensor = y) -> Tensor:
                return linear.losses(starts[s], ends[s], alphas[s], x, y)

            total += torch.cat(parts(len(starts), work, device=starts.device))
        return total


_AT_ONCE = 16
"""Points whose whole-set loss is evaluated together."""


def _summed_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy [k] summed over the examples in float64, for logits [k, n, classes]."""
    logs = torch.log_softmax(logits, dim=-1)
    index = targets[None, :, None].expand(len(logits), -1, 1)
    return -logs.gather(2, index).double().sum(dim=(1, 2))


class _Statistics:
    """Batch-norm statistics at a point: averages over the chunks of the training set."""

    def __init__(self, module: nn.Module, layout: ParameterLayout) -> None:
        self._module, self._layout = deepcopy(module).train(), layout
        for layer in self._module.modules():
            if isinstance(layer, _BatchNorm):
                layer.momentum = None  # a cumulative average

    def at(self, points: Tensor, inputs: Tensor) -> Mapping[str, Tensor]:
        """Buffers [k, ...] by name."""
        rows = []
        for point in points:
            module = deepcopy(self._module)
            for layer in module.modules():
                if isinstance(layer, _BatchNorm):
                    layer.reset_running_stats()
            for name, view in self._layout.views(point).items():
                module.get_parameter(name).data = view
            with torch.no_grad():
                for x in inputs.split(CHUNK):
                    module(x)
            rows.append(dict(module.named_buffers()))
        return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
