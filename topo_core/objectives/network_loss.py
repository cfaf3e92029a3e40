"""The loss of a network on a data set as an `Objective`: k copies of one `nn.Module` at once.

Points are flat rows of the trainable parameters in the order of `module.named_parameters()`. The loss is
the mean of a loss function over the training set (`losses`), and a ridge if there is one. Frozen
parameters and buffers are those of the module; `batch_norm` describes the statistics of batch norm.
"""

from collections.abc import Iterator, Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from topo_core.objectives.batch_norm import (
    TrainingSetStatistics,
    training_norms,
    with_statistics,
    without_statistics,
)
from topo_core.objectives.batch_norm_curvature import BatchNormCurvature
from topo_core.objectives.batching.convolutional_layers import plan_of as convolutional_plan
from topo_core.objectives.batching.cuda_graphs import CudaGraphEvaluator
from topo_core.objectives.batching.linear import LinearEvaluator
from topo_core.objectives.batching.linear import plan_of as linear_plan
from topo_core.objectives.batching.linear_segments import LinearSegments
from topo_core.objectives.batching.memory_budget import (
    BudgetedEvaluator,
    MemoryParts,
    activation_bytes,
    budget,
)
from topo_core.objectives.batching.protocol import EvaluationContext, Evaluator, Network
from topo_core.objectives.batching.registry import STRATEGIES, possible_strategies
from topo_core.objectives.losses import CrossEntropy, Loss, Ridge
from topo_core.objectives.minibatches import CHUNK, Minibatches, chunks, handed, moved
from topo_core.objectives.network_curvature import curvature_of
from topo_core.objectives.precision import Precision, arithmetic, check_precision
from topo_core.objectives.protocol import Step

_AT_ONCE = 16
"""Points whose loss over a set is evaluated together: enough for fast products, few enough for the memory."""


class ModuleObjective:
    """Mean loss of a network on a training set, and a ridge.

    Points may be float32 or float64. Points of another dtype than the data are evaluated by a copy of the
    network and the data in that dtype, made when it is first needed.

    Args:
        module: the network; its trainable parameters are not used, only their names and shapes.
        inputs, targets: training examples [n, ...] and their targets [n, ...].
        batch_size: number of examples in a minibatch; the last minibatch of an epoch may be smaller.
        strategy: one of `strategies`; None for the first of them.
        precision: precision of gradients on a GPU; losses are always computed in float32 or float64.
        loss: loss function of outputs and targets; None for cross entropy.
        ridge: a ridge that is added to the loss; None for none.
        streamed: whether the examples are never copied as a whole: chunks and minibatches are moved to the
            device and dtype of the points when they are used. Losses and gradients have the same bits.

    Attributes:
        depth: number of layers with weights if the network is a plain chain of layers; otherwise None.

    Raises:
        ValueError: the strategy or the precision is not possible here; the message is one sentence.
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
        loss: Loss | None = None,
        ridge: Ridge | None = None,
        streamed: bool = False,
    ) -> None:
        self._device = next(p.device for p in module.parameters())
        check_precision(precision, self._device)
        self.loss: Loss = loss or CrossEntropy()
        network = Network.of(module, self.loss)
        possible = possible_strategies(
            network, EvaluationContext(self._device.type, inputs, targets, precision)
        )
        self.strategy = strategy or possible[0]
        if self.strategy not in possible:
            raise ValueError(
                f"strategy is {self.strategy!r}; this network allows {', '.join(possible)}"
            )
        self.layout, self.precision = network.layout, precision
        plain = linear_plan(module) is not None or convolutional_plan(module) is not None
        self.depth = sum(len(shape) > 1 for shape in self.layout.shapes) if plain else None
        self._module, self._inputs, self._targets = module, inputs, targets
        self._ridge_given, self._streamed = ridge, streamed
        self._ridge = ridge.on(self.layout) if ridge is not None and ridge.strength else None
        norms = training_norms(module)
        self._minibatches = Minibatches(len(inputs), batch_size, smallest=2 if norms else 1)
        self._evaluators(norms)
        self._mean_weight = _mean_weight(self.loss, targets)
        self._statistics = TrainingSetStatistics(module, self.layout, norms) if norms else None
        self._normed = BatchNormCurvature(module, self.layout, norms, self.loss) if norms else None
        trained = Network(self._training_module, self.layout, self.loss)
        self._curvature = self._normed or curvature_of(trained, inputs)
        self._twin: ModuleObjective | None = None

    def _evaluators(self, norms: list[str]) -> None:
        """Set up the evaluators of minibatches and of whole sets."""
        strategy = STRATEGIES[self.strategy]
        self._training_module = without_statistics(self._module, norms)
        in_evaluation = with_statistics(self._module, norms).eval()
        evaluation = strategy.make(Network(in_evaluation, self.layout, self.loss))
        plain: Evaluator = (
            evaluation.inner if isinstance(evaluation, CudaGraphEvaluator) else evaluation
        )
        self._linear = plain if isinstance(plain, LinearEvaluator) and plain.depth > 1 else None
        in_steps = in_chunks = None
        if strategy.holds_all_points:
            example = handed(self._inputs[:1], next(self._module.parameters()))
            each = activation_bytes(deepcopy(in_evaluation), example)
            fits = budget(self._device) // each
            in_steps = max(1, fits // self._minibatches.size)
            in_chunks = max(1, fits // min(CHUNK, len(self._inputs)))
        training = strategy.make(Network(self._training_module, self.layout, self.loss))
        self._training = BudgetedEvaluator(training, in_steps)
        self._evaluation = BudgetedEvaluator(evaluation, in_chunks)

    @property
    def dimension(self) -> int:
        """d, the length of a row."""
        return self.layout.dimension

    @property
    def batches(self) -> int:
        """Minibatches of an epoch."""
        return len(self._minibatches)

    @property
    def batch_size(self) -> int:
        """Examples in a minibatch, at most those of the training set."""
        return self._minibatches.size

    def minibatch(self, step: Step) -> tuple[Tensor, Tensor]:
        """Inputs and targets of a step: an epoch visits each example once, in the step's own order."""
        chosen = self._minibatches.examples([step], self._inputs.device)[0]
        # Several times as fast as an index in brackets.
        x, y = (part.index_select(0, chosen) for part in (self._inputs, self._targets))
        return moved(x, self._device), moved(y, self._device)

    def gradients(self, points: Tensor, step: Step) -> tuple[Tensor, Tensor]:
        """Losses [k] and gradients [k, d] on the minibatch of `step`."""
        if self.batches == 1 and self._normed is not None:
            losses, gradients = self.full_gradients(points)
            return losses.to(points.dtype), gradients
        return self.minibatch_gradients(points, step)

    def minibatch_gradients(self, points: Tensor, step: Step) -> tuple[Tensor, Tensor]:
        """As `gradients`, but batch norm uses the statistics of the minibatch even if it is the whole set."""
        if (twin := self._for(points)) is not self:
            return twin.minibatch_gradients(points, step)
        with torch.no_grad(), arithmetic(self.precision, points.device):
            inputs, targets = self.minibatch(step)
            losses, gradients = self._training.gradients(points, handed(inputs, points), targets)
            return self._complete(points, losses, gradients)

    def gradients_of_paths(self, points: Tensor, steps: Sequence[Step]) -> tuple[Tensor, Tensor]:
        """Losses [p, m] and gradients [p, m, d] of `points` [p, m, d], path i on the batch of `steps[i]`.

        All steps must have the same batch index, so that all batches have the same size.
        """
        if self.batches == 1 and self._normed is not None:
            losses, gradients = self.full_gradients(points.flatten(0, 1))
            shape = points.shape[:2]
            return losses.to(points.dtype).view(shape), gradients.view(points.shape)
        if (twin := self._for(points)) is not self:
            return twin.gradients_of_paths(points, steps)
        with torch.no_grad(), arithmetic(self.precision, points.device):
            chosen = self._minibatches.examples(steps, self._inputs.device)
            losses, gradients = self._training.gradients_of_paths(
                points,
                handed(self._inputs[chosen], points),
                moved(self._targets[chosen], points.device),
            )
            return self._complete(points, losses, gradients)

    def losses(self, points: Tensor) -> Tensor:
        """Losses [k] over the training set, added up in float64."""
        if (twin := self._for(points)) is not self:
            return twin.losses(points)
        with torch.no_grad(), arithmetic("float32", points.device):
            return torch.cat([self._losses(rows) for rows in points.split(_AT_ONCE)])

    def measure(self, points: Tensor, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Mean losses [k] without the ridge, and accuracies [k], of `points` on any examples, in float64.

        Accuracies are NaN if the loss is no classification loss. Batch-norm statistics are always those of
        the training set.
        """
        if (twin := self._for(points)) is not self:
            return twin.measure(points, inputs, targets)
        with torch.no_grad(), arithmetic("float32", points.device):
            parts = [self._measure(rows, inputs, targets) for rows in points.split(_AT_ONCE)]
        return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])

    def full_gradients(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Losses [k] (float64) and gradients [k, d] over the whole training set: those of `losses`.

        With batch norm the gradients include the dependence of the statistics on the parameters.
        """
        if (twin := self._for(points)) is not self:
            return twin.full_gradients(points)
        with torch.no_grad(), arithmetic("float32", points.device):
            if self._normed is not None:
                losses, gradients = self._normed.gradients(points, self._inputs, self._targets)
                return self._complete(points, losses, gradients.to(points.dtype))
            losses = torch.zeros(len(points), dtype=torch.float64, device=points.device)
            gradients = torch.zeros_like(points, dtype=torch.float64)
            for x, y in chunks(self._inputs, self._targets, points):
                chunk_losses, chunk_gradients = self._training.gradients(points, x, y)
                losses += chunk_losses.double() * len(x)
                gradients += chunk_gradients.double() * len(x)
            count = len(self._inputs)
            return self._complete(points, losses / count, (gradients / count).to(points.dtype))

    def hessian_vector_products(self, points: Tensor, vectors: Tensor) -> Tensor:
        """Products [k, d] of the Hessians at `points` [k, d] with `vectors` [k, d], over the training set.

        Raises:
            NotImplementedError: an operation has no second derivative, or the network has batch norm and the
                training set more than one chunk.
        """
        if (twin := self._for(points)) is not self:
            return twin.hessian_vector_products(points, vectors)
        with arithmetic("float32", points.device):
            products = self._curvature.products(points, vectors, self._inputs, self._targets)
        if self._mean_weight != 1:
            products /= self._mean_weight
        if self._ridge is not None:
            self._ridge.add_gradients_(products, vectors)
        return products

    def ridge_value(self, point: Tensor) -> float:
        """The ridge at `point` [d]; 0 without one."""
        return 0.0 if self._ridge is None else float(self._ridge.values(point))

    def full_gradient(self, point: Tensor) -> Tensor:
        """Gradient [d] over the whole training set at `point` [d]; see `full_gradients`."""
        return self.full_gradients(point[None])[1][0]

    def statistics(self, point: Tensor) -> dict[str, Tensor]:
        """Batch-norm buffers at `point` [d], by name; empty for networks without."""
        if self._statistics is None:
            return {}
        if (twin := self._for(point)) is not self:
            return twin.statistics(point)
        with arithmetic("float32", point.device):
            buffers = self._statistics.at(point[None], self._inputs)
        return {name: rows[0] for name, rows in buffers.items()}

    def losses_on_segments(self, starts: Tensor, ends: Tensor, alphas: Tensor) -> Tensor:
        """Losses [s, m] (float64) on segments; see ``SegmentObjective``.

        For fully connected networks the outputs of the first layer are interpolated between the ends of a
        segment.
        """
        if (twin := self._for(starts)) is not self:
            return twin.losses_on_segments(starts, ends, alphas)
        if self._linear is None:
            weights = alphas.to(starts.dtype)[:, :, None]
            points = torch.lerp(starts[:, None], ends[:, None], weights).flatten(0, 1)
            return self.losses(points).view(alphas.shape)
        with torch.no_grad(), arithmetic("float32", starts.device):
            if starts.is_cuda:
                total = self._on_all_segments(starts, ends, alphas)
            else:
                total = self._linear.losses_on_segments(
                    starts, ends, alphas, self._inputs, self._targets
                )
            total = total / len(self._inputs)
            if self._ridge is not None:
                total += self._ridge.values_on_segments(starts, ends, alphas)
        return total

    def _for(self, points: Tensor) -> "ModuleObjective":
        """The objective that evaluates points of this dtype: this one, or its copy in their dtype."""
        if points.dtype == self._parameter_dtype:
            return self
        if self._twin is None or self._twin._parameter_dtype != points.dtype:
            inputs, shared = self._inputs, self._streamed or self._device.type != "cpu"
            self._twin = ModuleObjective(
                deepcopy(self._module).to(points.dtype),
                # On a CPU one copy is cheaper than to convert each chunk again and again.
                inputs if shared else handed(inputs, points),
                self._targets,
                batch_size=self._minibatches.size,
                strategy=self.strategy,
                precision=self.precision,
                loss=self.loss,
                ridge=self._ridge_given,
                streamed=self._streamed,
            )
        return self._twin

    @property
    def _parameter_dtype(self) -> torch.dtype:
        return next(p.dtype for p in self._module.parameters() if p.requires_grad)

    def _complete(self, points: Tensor, losses: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
        """Losses and gradients of the mean value, with the weights of the examples and the ridge."""
        if self._mean_weight != 1:
            losses, gradients = losses / self._mean_weight, gradients / self._mean_weight
        if self._ridge is not None:
            losses = losses + self._ridge.values(points).to(losses.dtype)
            self._ridge.add_gradients_(gradients, points)
        return losses, gradients

    def _losses(self, points: Tensor) -> Tensor:
        total = torch.zeros(len(points), dtype=torch.float64, device=points.device)
        for outputs, y in self._outputs(points, self._inputs, self._targets):
            total += self.loss.sums(outputs, y)
        losses = total / len(self._inputs)
        if self._mean_weight != 1:
            losses = losses / self._mean_weight
        return losses if self._ridge is None else losses + self._ridge.values(points)

    def _measure(self, points: Tensor, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        total = torch.zeros(len(points), dtype=torch.float64, device=points.device)
        right = torch.zeros_like(total)
        for outputs, y in self._outputs(points, inputs, targets):
            total += self.loss.sums(outputs, y)
            correct = self.loss.correct(outputs, y)
            right += torch.nan if correct is None else correct.sum(1)
        total /= _mean_weight(self.loss, targets)
        return total / len(inputs), right / len(inputs)

    def _outputs(
        self, points: Tensor, inputs: Tensor, targets: Tensor
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Outputs [k, n, ...] and targets [n, ...] of the chunks of a set."""
        buffers = self._statistics.at(points, self._inputs) if self._statistics else None
        for x, y in chunks(inputs, targets, points):
            yield self._evaluation.outputs(points, x, buffers), y

    def _on_all_segments(self, starts: Tensor, ends: Tensor, alphas: Tensor) -> Tensor:
        """Summed losses [s, m] on segments, for a GPU: each call has all points of as many segments as
        fit."""
        linear = LinearSegments(Network(self._training_module, self.layout, self.loss))
        points = self._evaluation.parts.at_once
        parts = MemoryParts(None if points is None else max(1, points // alphas.shape[1]))
        total = torch.zeros_like(alphas, dtype=torch.float64)
        for x, y in chunks(self._inputs, self._targets, starts):

            def work(s: slice, x: Tensor = x, y: Tensor = y) -> Tensor:
                return linear.losses(starts[s], ends[s], alphas[s], x, y)

            total += torch.cat(parts(len(starts), work, device=starts.device))
        return total


def strategies(
    module: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    loss: Loss | None = None,
    precision: Precision = "float32",
    device: str | None = None,
) -> tuple[str, ...]:
    """Names of the strategies that a network allows, the likely fastest first.

    Args:
        module: the network.
        inputs, targets: examples; only their shapes and dtypes matter.
        loss: loss function of outputs and targets; cross entropy by default.
        precision: precision of the gradients.
        device: kind of device, cpu or cuda; that of the inputs by default.
    """
    situation = EvaluationContext(device or inputs.device.type, inputs, targets, precision)
    return possible_strategies(Network.of(module, loss or CrossEntropy()), situation)


def _mean_weight(loss: Loss, targets: Tensor) -> float:
    """The mean weight of the examples of a set, by which a mean of their values is divided."""
    weights = loss.weights(targets)
    return 1.0 if weights is None else float(weights.mean())
