"""A run is of one problem: what does not fit its stored evaluation, data or code is seen first."""

import shutil
import sys

import pytest
import torch
import yaml
from torch import nn

from tests.helpers import results
from tests.helpers.command import toscore
from workers.storage.open_objects import open_objects
from workers.storage.run_store import Store

RUN = {
    "name": "r",
    "data": {"name": "digits", "subset": 100},
    "network": {"name": "fc", "hidden": [4]},
    "minima": {"count": 2, "epochs": 1},
    "paths": {"epochs": 1, "points": 3, "start": "line"},
}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs, or plans, a run file with some keys changed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def call(*command, **changed):
        file = tmp_path / "r.yaml"
        file.write_text(yaml.safe_dump({**RUN, "store": str(tmp_path / "runs"), **changed}))
        return toscore(*(command or ("run", "--in-process", "--quiet")), file)

    yield call
    for name in set(sys.modules) - before:
        if name.startswith("identity"):
            del sys.modules[name]


def evaluation(tmp_path):
    return Store(open_objects(str(tmp_path / "runs" / "r"))).latest_config()["evaluation"]


def test_another_network_under_the_same_name(run, tmp_path):
    """Part B, 4: the strategy of the old network is not used for one that it cannot evaluate."""
    assert run().code == 0
    assert "linear" in evaluation(tmp_path)["strategy"]
    said = run(network={"name": "cnn1", "channels": 2})
    assert said.code == 0, said.err
    assert "linear" not in evaluation(tmp_path)["strategy"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="of a machine without a GPU")
def test_a_run_begun_on_a_gpu_goes_on_without_one(run, tmp_path):
    """Part B, 4: the stored device is not there, so the evaluation is chosen again."""
    assert run().code == 0
    store = Store(open_objects(str(tmp_path / "runs" / "r")))
    config = store.latest_config()
    changed = {**config["evaluation"], "device": "cuda", "strategy": "linear_graph"}
    for written in (tmp_path / "runs" / "r").rglob("config-*.json"):
        written.unlink()
    store = Store(open_objects(str(tmp_path / "runs" / "r")))
    store.publish_config({**config, "evaluation": changed}, term=1)
    said = run(minima={"count": 3, "epochs": 1})
    assert said.code == 0, said.err
    assert evaluation(tmp_path)["device"] == "cpu"
    assert len(results.raw_records(tmp_path / "runs" / "r", "minima")) == 3


@pytest.mark.parametrize("command", [("plan",), ("run", "--in-process")])
def test_data_without_a_seed_are_refused(run, tmp_path, command):
    """Part B, 3: by plan and by run, in one sentence, with nothing written."""
    text = "import numpy as np\ndef load():\n    x = np.random.rand(30, 4)\n"
    text += "    return x, np.arange(30) % 2, x, np.arange(30) % 2\n"
    (tmp_path / "identitydata.py").write_text(text)
    said = run(*command, data={"name": "identitydata:load"})
    assert said.code == 2
    assert "returns other data when it is called again" in said.err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("same", ["file", "content", "weights"])
def test_a_minimum_that_is_named_twice(run, tmp_path, same):
    """Part B, 1c: one checkpoint twice never completes; equal weights have a path of no length."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.ReLU(), nn.Linear(4, 10))
    torch.save(module.state_dict(), tmp_path / "a.pt")
    names = ["a.pt", "a.pt"]
    if same == "content":
        shutil.copy(tmp_path / "a.pt", tmp_path / "b.pt")
        names[1] = "b.pt"
    elif same == "weights":
        torch.save({"state_dict": module.state_dict(), "epoch": 3}, tmp_path / "b.pt")
        names[1] = "b.pt"
    said = run(minima={"from": names})
    assert said.code == 2 and said.err.count("\n") == 1
    assert "minima.from names" in said.err
    assert not (tmp_path / "runs" / "r").exists()


def test_minima_on_two_landscapes(run, tmp_path):
    """Part B, 1b: checkpoints whose buffers differ are refused before anything is written."""
    text = (
        "import torch\nfrom torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.register_buffer('B', torch.randn(64, 8))\n"
        "        self.output = nn.Linear(8, 10)\n"
        "    def forward(self, x):\n"
        "        return self.output((x.flatten(1) @ self.B).sin())\n"
        "def build():\n"
        "    return Net()\n"
    )
    (tmp_path / "identitynet.py").write_text(text)
    import identitynet

    first, second = identitynet.Net(), identitynet.Net()
    for name, module in (("a.pt", first), ("b.pt", second)):
        torch.save(module.state_dict(), tmp_path / name)
    network = {"name": "identitynet:build"}
    said = run(network=network, minima={"from": ["a.pt", "b.pt"]})
    assert said.code == 2 and "they lie on different landscapes" in said.err
    second.B.copy_(first.B)
    torch.save(second.state_dict(), tmp_path / "b.pt")
    said = run(network=network, minima={"from": ["a.pt", "b.pt"]})
    assert said.code == 0, said.err
    assert toscore("verify", tmp_path / "r.yaml").code == 0


def test_a_strategy_that_differs_is_told(run, monkeypatch):
    """Part B, 1: what is not used, and why, is said once when the run starts."""
    from topo_core.objectives.batching import linear

    monkeypatch.setattr(
        linear.LinearEvaluator, "gradients", lambda self, points, x, y: (points[:, 0], points)
    )
    said = run("run", "--in-process")
    assert said.code == 0
    assert "The evaluation strategy linear is not used: its loss is" in said.err
