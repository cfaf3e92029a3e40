"""Runs with any loss, each confirmed by plain PyTorch from the files of the store alone."""

import itertools
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
import yaml
from torch.nn import functional

from tests.helpers import results
from tests.helpers.command import toscore

CODE = """
import torch
from torch import nn

N = 60


def inputs():
    return torch.randn(N, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def data(kind):
    x = inputs()
    y = {
        "classes": x[:, :3].argmax(1),
        "numbers": torch.stack([x[:, 0] * x[:, 1], x[:, 2].sin()], 1),
        "labels": (x[:, :2] > 0.3).double(),
        "tokens": torch.stack([x.argmax(1), x.argmin(1), x.abs().argmax(1)], 1),
    }[kind]
    return x[:50], y[:50], x[50:], y[50:]


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 12)

    def forward(self, x):
        return torch.tanh(self.inner(x)).unflatten(1, (3, 4))


def network(kind, outputs):
    if kind == "tokens":
        return Tokens()
    return nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, outputs))


def cubes(outputs, targets, scale):
    return scale * (outputs - targets).abs().pow(3).sum(1)
"""
RIDGE = 0.02
CASES = {
    "cross entropy": ("classes", {"name": "cross_entropy"}, functional.cross_entropy),
    "squared error": ("numbers", {"name": "mse"}, functional.mse_loss),
    "binary": ("labels", {"name": "bce"}, functional.binary_cross_entropy_with_logits),
    "tokens": (
        "tokens",
        {"name": "cross_entropy", "label_smoothing": 0.1},
        lambda o, t: functional.cross_entropy(o.flatten(0, 1), t.flatten(), label_smoothing=0.1),
    ),
    "a callable": (
        "numbers",
        {"name": "lossruns:cubes", "scale": 0.5},
        lambda o, t: 0.5 * (o - t).abs().pow(3).sum(1).mean(),
    ),
}


@pytest.fixture
def lossruns(tmp_path, monkeypatch):
    """The user's module, in the folder where the command is called."""
    (tmp_path / "lossruns.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    import lossruns

    yield lossruns
    import sys

    del sys.modules["lossruns"]


def plain(lossruns, kind, state, loss, dtype):
    """The training loss of a state dict, with the ridge, by the network's own forward pass."""
    x, y, *_ = lossruns.data(kind)
    x, y = x.to(dtype), y.to(dtype) if y.is_floating_point() else y
    module = lossruns.network(kind, 1 if y.ndim == 1 else y.shape[-1])
    if kind == "classes":
        module = lossruns.network(kind, 3)
    module = module.to(dtype)
    module.load_state_dict(state, strict=True)
    with torch.no_grad():
        squares = sum(p.double().square().sum() for p in module.parameters())
        return float(loss(module(x).double(), y)) + 0.5 * RIDGE * float(squares)


def at(module, point):
    """The state dict of a flat point."""
    torch.nn.utils.vector_to_parameters(torch.as_tensor(point), module.parameters())
    return module.state_dict()


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_run_is_confirmed_by_plain_pytorch(lossruns, tmp_path, name, dtype):
    """Losses of minima and heights agree with plain PyTorch to 1e-9 in float64 and 1e-5 in float32."""
    kind, spec, loss = CASES[name]
    outputs = {"classes": 3, "tokens": 4}.get(kind, 2)
    written = {
        "name": "r",
        "store": str(tmp_path / "runs"),
        "dtype": dtype,
        "data": {"name": "lossruns:data", "kind": kind},
        "network": {"name": "lossruns:network", "kind": kind, "outputs": outputs},
        "loss": {**spec, "ridge": RIDGE},
        "minima": {"count": 2, "epochs": 5, "batch_size": 20},
        "paths": {"epochs": 2, "points": 5, "batch_size": 20, "start": "line"},
        "saddles": {"refine": "auto" if name == "cross entropy" else "off"},
    }
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(written))
    said = toscore("run", tmp_path / "r.yaml", "--in-process", "--quiet")
    assert said.code == 0, said.err
    run, tolerance = tmp_path / "runs" / "r", 1e-5 if dtype == "float32" else 1e-9
    torch_dtype = getattr(torch, dtype)
    for row in results.raw_records(run, "minima"):
        state = safetensors.torch.load_file(run / row["object"])
        assert {value.dtype for value in state.values()} == {torch_dtype}
        expected = plain(lossruns, kind, state, loss, torch_dtype)
        assert row["loss"] == pytest.approx(expected, rel=tolerance)
    (pair,) = results.raw_records(run, "pairs")
    table = pq.read_table(run / pair["object"]).to_pylist()
    points = np.array([line["values"] for line in table if line["name"] == "points"])
    lengths = np.cumsum([0.0, *(np.linalg.norm(b - a) for a, b in itertools.pairwise(points))])
    top = pair["positions"][int(np.argmax(pair["losses"]))] * lengths[-1]
    point = [np.interp(top, lengths, column) for column in points.T]
    module = lossruns.network(kind, outputs).to(torch_dtype)
    state = at(module, torch.tensor(point, dtype=torch_dtype))
    expected = plain(lossruns, kind, state, loss, torch_dtype)
    assert pair["height"] == pytest.approx(expected, rel=tolerance)
    reported = json.loads(toscore("reduce", run, "--json").out)
    assert (reported["minima"][0]["accuracy"] is None) is (kind == "numbers")


OBJECTIVE = """
import torch


class Valleys:
    dimension = 3

    def __init__(self, depth):
        self.depth = depth

    def start(self, seed):
        return torch.randn(3, generator=torch.Generator().manual_seed(seed))

    def loss(self, p):
        return self.depth * (p[0] ** 2 - 1) ** 2 + (p[1] - p[0]) ** 2 + p[2] ** 2


class Factors:
    dimension, count = 16, 15

    def __init__(self):
        draw = torch.Generator().manual_seed(0)
        self.matrix = torch.randn(3, 5, generator=draw)

    def terms(self, p, indices):
        left, right = p[:6].view(3, 2).to(self.matrix), p[6:].view(2, 5).to(self.matrix)
        return ((left @ right - self.matrix).flatten()[indices] ** 2).to(p)
"""


@pytest.mark.parametrize(
    ("objective", "dtype"),
    [({"name": "ownloss:Valleys", "depth": 2.0}, "float64"), ("ownloss:Factors", "float32")],
)
def test_an_objective_of_ones_own(tmp_path, monkeypatch, objective, dtype):
    """A loss of the parameters alone, with its own starts or minibatches, runs from minima to barcode."""
    (tmp_path / "ownloss.py").write_text(OBJECTIVE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    written = {
        "name": "r",
        "store": str(tmp_path / "runs"),
        "dtype": dtype,
        "objective": objective,
        "loss": {"ridge": RIDGE},
        "minima": {
            "count": 3,
            "epochs": 100,
            "batch_size": 4,
            "optimizer": {"name": "adam", "lr": 0.02},
            "polish": "auto" if dtype == "float64" else "off",
        },
        "paths": {"epochs": 60, "points": 9, "batch_size": 4, "start": "line"},
        "saddles": {"refine": "auto" if dtype == "float64" else "off"},
    }
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(written))
    assert toscore("plan", tmp_path / "r.yaml").code == 0
    said = toscore("run", tmp_path / "r.yaml", "--in-process", "--quiet")
    assert said.code == 0, said.err
    run = tmp_path / "runs" / "r"
    import ownloss

    for row in results.raw_records(run, "minima"):
        point = safetensors.torch.load_file(run / row["object"])["point"]
        assert point.dtype == getattr(torch, dtype)
        if dtype == "float64":
            value = ownloss.Valleys(2.0).loss(point)
        else:
            value = ownloss.Factors().terms(point, torch.arange(15)).mean()
        expected = float(value) + 0.5 * RIDGE * float(point.double().square().sum())
        assert row["loss"] == pytest.approx(expected, rel=1e-9 if dtype == "float64" else 1e-5)
    if dtype == "float64":
        heights = [row["height"] for row in results.raw_records(run, "pairs")]
        assert max(heights) == pytest.approx(2.0, rel=0.02)  # of the saddle at the origin
    assert toscore("verify", tmp_path / "r.yaml").code == 0


CUT = """
import torch


class Loss:
    dimension = 3

    def loss(self, p):
        return p[0] ** 2 + (p[1].detach() - p[0]) ** 2 + p[2] ** 2


class Terms(Loss):
    count = 8

    def terms(self, p, indices):
        return self.loss(p) * (1 + indices.to(p))
"""


@pytest.mark.parametrize("name", ["Loss", "Terms"])
def test_an_objective_of_which_a_part_is_cut_is_refused(tmp_path, monkeypatch, name):
    """An objective whose gradient is not that of its loss is refused, with minibatches or without."""
    (tmp_path / "cutloss.py").write_text(CUT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    written = {"name": "r", "objective": f"cutloss:{name}", "minima": {"batch_size": 4}}
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(written))
    said = toscore("plan", tmp_path / "r.yaml")
    assert said.code == 2
    assert "has a gradient that is not that of its loss" in said.err


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ({"objective": 3}, "it must be your own loss as module:callable"),
        ({"objective": "no_colon"}, "it must be your own loss as module:callable"),
        ({"objective": "a:b", "data": "digits"}, "there are both data and objective"),
        ({"objective": "a:b", "loss": "mse"}, "leave loss.name out"),
        ({"objective": "nosuchmodule:b"}, "there is no module nosuchmodule"),
        ({"loss": {"name": "crossentropy"}}, "did you mean cross_entropy"),
        ({"loss": {"ridge": -1}}, "loss.ridge is -1; it must be a number, 0 or more"),
        ({"loss": {"name": "mse", "label_smoothing": 0.1}}, "is not an option of mse"),
        ({"loss": {"label_smoothing": 2}}, "it must be a number from 0 to 1"),
        ({"loss": {"ridge": 1, "ridge_on": "bais"}}, "matches no parameter"),
        ({"network": {"name": "fc", "activation": "rleu"}}, "it must be one of relu, tanh"),
    ],
)
def test_losses_that_are_none(tmp_path, written, says):
    """An impossible loss is refused in one sentence that names the key, with exit code 2; nothing is
    written."""
    whole = {"name": "r", "store": str(tmp_path / "runs"), "data": "digits", "network": "fc"}
    if "objective" in written:
        whole = {key: value for key, value in whole.items() if key not in ("data", "network")}
    (tmp_path / "r.yaml").write_text(yaml.safe_dump({**whole, **written}))
    said = toscore("plan", tmp_path / "r.yaml")
    assert said.code == 2 and says in said.err, said.err
    assert not (tmp_path / "runs").exists()
