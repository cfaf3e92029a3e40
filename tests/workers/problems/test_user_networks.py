"""Networks as people have them: they run with the numbers of plain PyTorch, or are refused in a sentence."""

import sys
import types

import pytest
import torch
from torch import nn

from tests.helpers.problems import problem_of
from workers.execution.strategy_probe import choose_evaluation
from workers.problems.evaluation import Evaluation
from workers.problems.loaded_problem import load_problem
from workers.problems.user_code import BadReference
from workers.tasks.path_tasks import PathTaskSettings

DATA = {"name": "digits", "subset": 60}


class Recurrent(nn.Module):
    """Its loss has no batching rule under `vmap`."""

    def __init__(self):
        super().__init__()
        self.rows, self.output = nn.GRU(8, 6, batch_first=True), nn.Linear(6, 10)

    def forward(self, x):
        return self.output(self.rows(x[:, 0])[0][:, -1])


class InPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.output = nn.Linear(64, 10)

    def forward(self, x):
        x -= 1
        return self.output(x.flatten(1))


class Complex(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(64, 10, dtype=torch.complex64))

    def forward(self, x):
        return (x.flatten(1).to(self.weight.dtype) @ self.weight).abs()


class Cut(nn.Module):
    """A part of its graph is cut, so that half of its parameters have no gradient."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(64, 10), nn.Linear(64, 10)

    def forward(self, x):
        return self.first(x.flatten(1)) + self.second(x.flatten(1)).detach().tanh()


class Doubled(torch.autograd.Function):
    """The identity, with twice its gradient."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, slope):
        return 2 * slope


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(64, 5), nn.Linear(5, 10)

    def forward(self, x):
        return self.second(Doubled.apply(self.first(x.flatten(1))).relu())


def plain():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


RUN = {
    "weight_norm": lambda: nn.Sequential(nn.Flatten(), nn.utils.weight_norm(nn.Linear(64, 10))),
    "gru": Recurrent,
    "lazy": lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(10)),
    "float64": lambda: plain().double(),
    "half": lambda: plain().half(),
    "parallel": lambda: nn.DataParallel(plain()),
}
REFUSED = {
    "script": (lambda: torch.jit.script(plain()), "TorchScript"),
    "in_place": (InPlace, "changes its inputs in place"),
    "complex": (Complex, "complex parameters"),
    "frozen": (lambda: plain().requires_grad_(False), "no trainable parameters"),
    "none": (nn.Flatten, "no trainable parameters"),
    "cut": (Cut, "a gradient that is not that of its loss"),
    "scaled": (Scaled, "a gradient that is not that of its loss"),
}


@pytest.fixture
def networks(monkeypatch, tmp_path):
    """A module of builders, by the names above."""
    module = types.ModuleType("usernets")
    for name, build in {**RUN, **{name: build for name, (build, _) in REFUSED.items()}}.items():
        setattr(module, name, build)
    monkeypatch.setitem(sys.modules, "usernets", module)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", RUN)
def test_they_run(networks, name):
    """A strategy is found, and the loss is that of the network itself with the same weights."""
    loaded = load_problem(problem_of({"name": f"usernets:{name}"}, DATA), Evaluation())
    choice = choose_evaluation(loaded, PathTaskSettings(points=4, batch_size=20))
    point = loaded.initial_point(1)
    own = RUN[name]()
    own = (own.module if isinstance(own, nn.DataParallel) else own).float().eval()
    own.load_state_dict(loaded.state_dict(point), strict=True)
    outputs = own(loaded.data.train_inputs.to(next(own.parameters()).device))
    expected = nn.functional.cross_entropy(outputs, loaded.data.train_targets).item()
    assert loaded.measure(point).loss == pytest.approx(expected, rel=1e-5)
    assert (choice.evaluation.strategy == "literal") is (name in ("weight_norm", "gru"))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", REFUSED)
def test_they_are_refused(networks, name):
    """The sentence says what the network has and what to do."""
    with pytest.raises(BadReference, match=REFUSED[name][1]):
        load_problem(problem_of({"name": f"usernets:{name}"}, DATA), Evaluation())
