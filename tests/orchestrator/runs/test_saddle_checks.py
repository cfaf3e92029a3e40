"""`reduce --verify-saddles`: the passes of a run against gradients and Hessians of the plain network."""

import functools
import json
import shutil
from dataclasses import replace

import pytest
import torch

from orchestrator.runs import saddle_checks as saddles
from orchestrator.runs.saddle_checks import verify_saddles
from orchestrator.runs.stored_run import open_run
from tests.helpers.command import toscore
from workers.problems.data_sets import load_dataset
from workers.problems.networks import build
from workers.tasks.specs import DataSpec, NetworkSpec

SETTINGS = """
data: digits
network: {name: fc, hidden: [2]}
minima: {count: 2, epochs: 150}
paths: {start: line, optimizer: {name: sgd, lr: 0.05}, epochs: 12, points: 7}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saddles")
    file = folder / "s.yaml"
    file.write_text(f"name: s\nstore: {folder}/runs\n{SETTINGS}")
    said = toscore("run", file, "--in-process")
    assert said.code == 0, said.err
    return folder / "runs" / "s"


@functools.cache
def plain():
    data = load_dataset(DataSpec("digits"))
    network = NetworkSpec("fc", (("hidden", (2,)),))
    return data, build(network, data.input_shape, data.classes).double()


def plain_loss(point):
    """Mean cross entropy of a flat float64 point by the module's own forward pass."""
    data, module = plain()
    names = [name for name, _ in module.named_parameters()]
    shapes = [p.shape for p in module.parameters()]
    parts = point.split([shape.numel() for shape in shapes])
    weights = {n: p.reshape(s) for n, p, s in zip(names, parts, shapes, strict=True)}
    outputs = torch.func.functional_call(module, weights, (data.train_inputs.double(),))
    return torch.nn.functional.cross_entropy(outputs, data.train_targets)


def test_what_is_told_is_true_of_the_plain_network(run, monkeypatch):
    """Loss, gradient norm and the lowest eigenvalue are those of autograd at the same point."""
    # One product for each of the 160 dimensions, so that Lanczos has seen them all; and so small a
    # difference that no kink of ReLU lies between its two points, which autograd would not see.
    monkeypatch.setattr(
        saddles, "SETTINGS", replace(saddles.SETTINGS, climb=3, lanczos=160, difference=1e-7)
    )
    started = open_run(str(run))
    (found,) = verify_saddles(started, started.landscape())
    saddle = found.saddle
    assert saddle is not None
    point = saddle.point
    assert saddle.loss == pytest.approx(float(plain_loss(point)), rel=1e-9)
    gradient = torch.func.grad(plain_loss)(point)
    assert saddle.gradient_norm == pytest.approx(float(gradient.norm()), rel=1e-6)
    values = torch.linalg.eigvalsh(torch.autograd.functional.hessian(plain_loss, point))
    assert saddle.eigenvalues[0] == pytest.approx(float(values[0]), rel=0.02, abs=1e-4)
    clearly = values.abs() > 1e-3 * values.abs().max()
    assert saddle.negative >= int((values[clearly] < 0).sum())


def test_the_command_adds_one_entry_a_bar_that_ends(run):
    """JSON has pass, verdict and eigenvalues; the terminal form has a line of them."""
    result = json.loads(toscore("reduce", run, "--json", "--verify-saddles").out)
    (entry,) = result["saddles"]
    bar = next(b for b in result["barcodes"]["0"]["elder"] if b["saddle"])
    assert [entry["i"], entry["j"]] == bar["saddle"]
    verdicts = {"pass", "saddle", "minimum", "sinks", "kink", "flat", "moving", "unsettled"}
    assert entry["verdict"] in verdicts
    assert entry["barrier_left"] == pytest.approx(
        entry["barrier"] - entry["peak_loss"] + entry["loss"]
    )
    assert (entry["barrier_left"] <= 0) == (entry["verdict"] == "sinks")
    assert entry["peak_loss"] == pytest.approx(bar["death"], rel=1e-3)
    assert len(entry["eigenvalues"]) == 5 and entry["gradient_evaluations"] > 0
    assert "saddles" not in json.loads(toscore("reduce", run, "--json").out)
    assert entry["verdict"] in toscore("reduce", run, "--verify-saddles").out


def test_a_path_that_cannot_be_read_is_told(run, tmp_path):
    """Without its points the sentence names the path and what to do, with exit code 2."""
    copy = tmp_path / "s"
    shutil.copytree(run, copy)
    for file in (copy / "paths").iterdir():
        file.write_bytes(file.read_bytes()[:-9])
    said = toscore("reduce", copy, "--verify-saddles")
    assert said.code == 2 and "0–1" in said.err, said.err
