"""A `Problem`, loaded: the data on its device and the network, ready to be evaluated at flat points."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from topo_core.objectives.batching.flat_parameters import ParameterLayout
from topo_core.objectives.network_loss import ModuleObjective
from workers.problems.data_sets import Dataset, load_dataset
from workers.problems.evaluation import Evaluation
from workers.problems.networks import build
from workers.problems.user_code import BadReference
from workers.tasks.tasks import Problem


@dataclass(frozen=True)
class Measurement:
    """Of one point, over whole sets: plain loss (mean cross entropy), accuracy, gradient norm."""

    loss: float
    accuracy: float
    test_loss: float
    test_accuracy: float
    gradient_norm: float


@dataclass(frozen=True)
class Loaded:
    """The data and the network of a problem on the device of an evaluation."""

    problem: Problem
    data: Dataset
    module: nn.Module
    evaluation: Evaluation

    @cached_property
    def layout(self) -> ParameterLayout:
        return ParameterLayout.of(self.module)

    @property
    def dimension(self) -> int:
        return self.layout.dimension

    @cached_property
    def _objectives(self) -> dict[int, ModuleObjective]:
        return {}

    def objective(self, batch_size: int) -> ModuleObjective:
        """The training loss, with minibatches of a size."""
        if batch_size not in self._objectives:
            strategy = self.evaluation.strategy
            self._objectives[batch_size] = ModuleObjective(
                self.module,
                self.data.train_inputs,
                self.data.train_targets,
                batch_size=batch_size,
                strategy=None if strategy == "auto" else strategy,
                precision=self.evaluation.precision,
            )
        return self._objectives[batch_size]

    def initial_point(self, seed: int) -> Tensor:
        """Initial weights [d], drawn by the network's own initialisation from `seed` alone."""
        spec, data = self.problem.network, self.data
        module = build(spec, data.input_shape, data.classes, seed)
        return self.layout.flatten(dict(module.named_parameters())).to(self.evaluation.device)

    def flat(self, state: Mapping[str, Tensor]) -> Tensor:
        """The point [d] of a state dict."""
        return self.layout.flatten(state).to(self.evaluation.device)

    def on_device(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors of the store, by name, where the arithmetic is carried out."""
        return {name: tensor.to(self.evaluation.device) for name, tensor in tensors.items()}

    def moved(self, evaluation: Evaluation) -> "Loaded":
        """The same problem on the device of another evaluation."""
        device, data = torch.device(evaluation.device), self.data
        there = Dataset(
            data.train_inputs.to(device),
            data.train_targets.to(device),
            data.test_inputs.to(device),
            data.test_targets.to(device),
            data.classes,
        )
        return Loaded(self.problem, there, deepcopy(self.module).to(device), evaluation)

    def state_dict(self, point: Tensor) -> dict[str, Tensor]:
        """The state dict of a point [d], loadable by the user's own network.

        Batch-norm statistics are those of the training set at this point.
        """
        named = self.layout.views(point)
        statistics = self.objective(1).statistics(point)
        return {**named, **statistics}

    def measure(self, point: Tensor) -> Measurement:
        """Everything that is reported of a minimum, over the whole training and test sets."""
        objective, data = self.objective(len(self.data.train_inputs)), self.data
        row = point[None]
        loss, accuracy = objective.measure(row, data.train_inputs, data.train_targets)
        test_loss, test_accuracy = objective.measure(row, data.test_inputs, data.test_targets)
        return Measurement(
            float(loss),
            float(accuracy),
            float(test_loss),
            float(test_accuracy),
            float(torch.linalg.vector_norm(objective.full_gradient(point).double())),
        )


def load_problem(problem: Problem, evaluation: Evaluation, data: Dataset | None = None) -> Loaded:
    """Load the data, build the network, and see that they fit.

    Args:
        problem: what is wanted.
        evaluation: where, and how the arithmetic is carried out.
        data: of the problem, where they have been loaded already.

    Raises:
        BadReference: they are not there, or do not fit together; one sentence.
    """
    data = data or load_dataset(problem.data)
    module = build(problem.network, data.input_shape, data.classes)
    _check_fit(problem, data, module)
    return Loaded(problem, data, module, Evaluation()).moved(evaluation)


def _check_fit(problem: Problem, data: Dataset, module: nn.Module) -> None:
    """One example goes through, comes out as one number a class, and as the same in training again.

    Dropout and its like would make the loss another function at each look; they are refused.
    """
    name = problem.network.name
    example = data.train_inputs[:2]
    outputs = _outputs(problem, data, deepcopy(module).eval(), example, seed=0)
    if not isinstance(outputs, Tensor) or outputs.shape != (len(example), data.classes):
        shape = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise BadReference(
            f"network.name {name!r} returns {shape} for {len(example)} examples of "
            f"{data.classes} classes; it must return ({len(example)}, {data.classes})"
        )
    first, again = (
        _outputs(problem, data, deepcopy(module).train(), example, seed=seed) for seed in (0, 1)
    )
    if not isinstance(first, Tensor) or not isinstance(again, Tensor):
        raise BadReference(
            f"network.name {name!r} returns {type(first).__name__} in training; it must return a "
            "tensor then too (for a network with auxiliary outputs: aux_logits: false)"
        )
    if not torch.equal(first, again):
        raise BadReference(
            f"network.name {name!r} draws random numbers in training (dropout?), so its loss is no "
            "function of the parameters: set their probability to 0 by its options"
        )


def _outputs(
    problem: Problem, data: Dataset, module: nn.Module, example: Tensor, *, seed: int
) -> object:
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            outputs: object = module(example)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        reason = str(error).splitlines()[0]
        raise BadReference(
            f"network.name {problem.network.name!r} does not take the inputs of "
            f"{problem.data.name!r}, of shape {data.input_shape}: {reason}"
        ) from None
    return outputs
