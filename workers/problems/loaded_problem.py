"""A loaded `Problem`: its data and network on a device, which can be evaluated at flat points [d]."""

import math
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from topo_core.objectives.flat_parameters import ParameterLayout
from topo_core.objectives.losses import Loss, Ridge
from topo_core.objectives.network_loss import ModuleObjective, strategies
from workers.problems.checkpoints import load_fixed_state
from workers.problems.compatibility import adapt, check_classes, check_fit, output_size
from workers.problems.data_placement import Placement, placement_of
from workers.problems.data_sets import load_dataset
from workers.problems.dataset import Dataset
from workers.problems.evaluation import Evaluation, free_memory, pinned
from workers.problems.loss_functions import make_loss, make_ridge
from workers.problems.network_state import NetworkState
from workers.problems.networks import build
from workers.problems.user_code import BadReference
from workers.tasks.problem import Problem

DTYPES = {"float32": torch.float32, "float64": torch.float64}
"""The dtypes of data and parameters by the names of a run file."""


@dataclass(frozen=True)
class Measurement:
    """Measurements of one point over whole data sets.

    Attributes:
        loss: over the training set, with the ridge if there is one.
        test_loss: over the test set, without the ridge; NaN without a test set.
        accuracy, test_accuracy: NaN where the loss classifies nothing, or without a test set.
        gradient_norm: Euclidean norm of the gradient of `loss`.
    """

    loss: float
    accuracy: float
    test_loss: float
    test_accuracy: float
    gradient_norm: float


@dataclass(frozen=True)
class LoadedProblem:
    """The data and the network of a problem on the device of an evaluation.

    Streamed data (`placement`) stay on the host; `topo_core` moves their chunks and minibatches.
    """

    problem: Problem
    data: Dataset
    module: nn.Module
    evaluation: Evaluation
    placement: Placement
    exact_dtype: torch.dtype = torch.float64
    """Dtype in which points are polished, refined and judged: that of the run for a network that fails in
    float64."""
    notes: tuple[str, ...] = ()
    """Sentences on choices made while reading the user's data and calling the network, for the user to
    check."""

    @cached_property
    def user_module(self) -> nn.Module:
        """The network as its builder makes it, in its own dtypes. Checkpoints are compared with it."""
        spec, data = self.problem.network, self.data
        return build(spec, data.input_shape, output_size(data, self.loss))

    @cached_property
    def layout(self) -> ParameterLayout:
        """The layout of the trainable parameters in a point [d]."""
        return ParameterLayout.of(self.module)

    @cached_property
    def state(self) -> NetworkState:
        """The names in the network's state dict, by kind."""
        return NetworkState.of(self.module)

    @cached_property
    def loss(self) -> Loss:
        """The loss function, without the ridge."""
        return make_loss(self.problem.loss)

    @cached_property
    def ridge(self) -> Ridge | None:
        """The ridge that is part of the loss."""
        return make_ridge(self.problem.loss)

    def examples(self, count: int) -> tuple[Tensor, Tensor]:
        """The inputs and targets of the first training examples, on the device of the evaluation."""
        device = self.evaluation.device
        return self.data.train_inputs[:count].to(device), self.data.train_targets[:count].to(device)

    @property
    def dimension(self) -> int:
        """The number d of trainable parameters."""
        return self.layout.dimension

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of data and parameters."""
        return DTYPES[self.problem.dtype]

    @cached_property
    def _objectives(self) -> dict[int, ModuleObjective]:
        return {}

    def strategies(self) -> tuple[str, ...]:
        """Names of the evaluation strategies that support this problem, in decreasing order of expected
        speed."""
        return strategies(
            self.module,
            self.data.train_inputs[:1],
            self.data.train_targets[:1],
            loss=self.loss,
            precision=self.evaluation.precision,
            device=torch.device(self.evaluation.device).type,
        )

    def objective(self, batch_size: int) -> ModuleObjective:
        """The training loss, with minibatches of `batch_size` examples."""
        if batch_size not in self._objectives:
            strategy = self.evaluation.strategy
            self._objectives[batch_size] = ModuleObjective(
                self.module,
                self.data.train_inputs,
                self.data.train_targets,
                batch_size=batch_size,
                strategy=None if strategy == "auto" else strategy,
                precision=self.evaluation.precision,
                loss=self.loss,
                ridge=self.ridge,
                streamed=self.placement.streamed,
            )
        return self._objectives[batch_size]

    def initial_point(self, seed: int) -> Tensor:
        """Initial weights [d], drawn by the network's own initialisation from `seed` alone."""
        spec, data = self.problem.network, self.data
        module = build(spec, data.input_shape, output_size(data, self.loss), seed)
        return self.flat(dict(module.named_parameters()))

    def flat(self, state: Mapping[str, Tensor]) -> Tensor:
        """The point [d] of a state dict."""
        point = self.layout.flatten(self.state.complete(state))
        return point.to(self.evaluation.device, self.dtype)

    def exact(self, points: Tensor) -> Tensor:
        """Points [..., d] in `exact_dtype`."""
        return points.to(self.exact_dtype)

    def on_device(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors of the store, by name, on the device of the evaluation."""
        return {name: tensor.to(self.evaluation.device) for name, tensor in tensors.items()}

    def moved(self, evaluation: Evaluation) -> "LoadedProblem":
        """The same problem on the device of another evaluation."""
        device, host = torch.device(evaluation.device), torch.device("cpu")
        placement = placement_of(self.data.bytes, free_memory(device), mapped=self.data.mapped)
        if not placement.streamed:
            data = self.data.to(device)
        elif placement.mapped:  # pinning would read the whole file
            data = self.data
        else:
            data = self.data.to(host).each(pinned)
        module = deepcopy(self.module).to(device)
        return replace(self, data=data, module=module, evaluation=evaluation, placement=placement)

    def state_dict(self, point: Tensor) -> dict[str, Tensor]:
        """The complete state dict of the network at a point [d], which the user's network can load strictly.

        Batch-norm statistics are those of the training set at this point. Frozen parameters and buffers are
        those of the problem. A tied tensor has an entry for each of its names.
        """
        named = self.layout.views(point)
        own = self.module.state_dict()
        statistics = {
            name: value
            for name, value in self.objective(1).statistics(point).items()
            if name in self.state.statistics
        }
        missing = {name: own[name] for name in self.state.statistics if name not in statistics}
        fixed = {name: own[name].clone() for name in self.state.fixed}
        state = {**named, **statistics, **missing, **fixed}
        ties = {o: state[name].clone() for o, name in self.state.ties.items() if name in state}
        return {**state, **{name: value for name, value in ties.items() if name in own}}

    def measure(self, point: Tensor) -> Measurement:
        """Losses, accuracies and gradient norm at a point [d], over the whole training and test sets."""
        objective, data = self.objective(len(self.data.train_inputs)), self.data
        row = point[None]
        loss, accuracy = objective.measure(row, data.train_inputs, data.train_targets)
        test_loss = test_accuracy = math.nan
        if len(data.test_inputs):
            on_test = objective.measure(row, data.test_inputs, data.test_targets)
            test_loss, test_accuracy = map(float, on_test)
        return Measurement(
            float(loss) + objective.ridge_value(point),
            float(accuracy),
            test_loss,
            test_accuracy,
            float(torch.linalg.vector_norm(objective.full_gradient(point).double())),
        )


def load_problem(
    problem: Problem, evaluation: Evaluation, data: Dataset | None = None
) -> LoadedProblem:
    """Load the data, build the network, and check that they fit.

    Args:
        problem: the network, data and loss to load.
        evaluation: the device, and how the arithmetic is carried out.
        data: of the problem, where they have been loaded already.

    Raises:
        BadReference: they are missing, or do not fit together; one sentence.
    """
    dtype = DTYPES[problem.dtype]
    data = (data or load_dataset(problem.data)).to(torch.device("cpu"), dtype)
    loss = make_loss(problem.loss)
    check_classes(problem, data, loss)
    module = build(problem.network, data.input_shape, output_size(data, loss))
    if problem.fixed is not None:
        load_fixed_state(problem.fixed.location, module, problem.fixed.digest, dtype)
    module = module.to(dtype)
    note = adapt(problem, data, module)
    exact = torch.promote_types(check_fit(problem, data, module, loss), dtype)
    if (ridge := make_ridge(problem.loss)) is not None:
        try:
            ridge.on(ParameterLayout.of(module))
        except ValueError as error:
            raise BadReference(str(error)) from None
    notes = tuple(f"data.name {problem.data.name!r}: {note}" for note in data.notes)
    notes += (note,) if note else ()
    if exact is not torch.float64:
        notes += (
            f"network.name {problem.network.name!r} does not compute in float64 (a tensor that is no buffer, "
            "or float() in its forward?), so points are judged in float32, which is less sharp",
        )
    on_cpu = placement_of(data.bytes, None, mapped=data.mapped)
    loaded = LoadedProblem(problem, data, module, Evaluation(), on_cpu, exact, notes)
    return loaded.moved(evaluation)
