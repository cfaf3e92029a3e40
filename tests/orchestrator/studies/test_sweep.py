"""`toscore sweep`: minima and paths of a finished run follow a key, and their barcode a closed form."""

import json

import pytest

from orchestrator.run_file.errors import BadRunFile
from orchestrator.runs.stored_run import open_run
from orchestrator.studies.sweep import EPOCHS, ROUNDS, next_run, parse_sweep
from tests.helpers import results
from tests.helpers.command import toscore

WELLS = """
class Wells:
    dimension = 2

    def __init__(self, wall=1.0):
        self.wall = wall

    def start(self, seed):
        import torch

        return torch.tensor([1.2 if seed % 2 else -1.2, 0.3])

    def loss(self, point):
        return (point[0] ** 2 - self.wall) ** 2 + point[1] ** 2
"""
RUN = {
    "name": "wells",
    "dtype": "float64",
    "objective": {"name": "sweptwells:Wells", "wall": 1.0},
    "loss": {"ridge": 0.2},
    "minima": {
        "count": 0,
        "epochs": 0,
        "polish": "on",
        "from": [],
        "restarts": {"from": ["left.safetensors", "right.safetensors"], "count": 1, "spread": [0]},
    },
    "paths": {"start": "line", "points": 9, "epochs": 40},
    "saddles": {"refine": "bars"},
}


def bar(ridge, wall=1.0):
    """Length of the bar of (x² - w)² + y² + ½λ(x² + y²): minima at x² = w - λ/4, the saddle at the origin."""
    return (wall - ridge / 4) ** 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished run of two wells with a ridge of 0.2."""
    import safetensors.torch
    import torch

    folder = tmp_path_factory.mktemp("sweep")
    (folder / "sweptwells.py").write_text(WELLS)
    for name, x in (("left", -1.1), ("right", 1.1)):
        point = torch.tensor([x, 0.1], dtype=torch.float64)
        safetensors.torch.save_file({"point": point}, folder / f"{name}.safetensors")
    (folder / "wells.yaml").write_text(json.dumps({**RUN, "store": str(folder / "runs")}))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        said = toscore("run", folder / "wells.yaml", "--in-process", "-q")
        assert said.code == 0, said.err
        yield folder


def test_the_barcode_follows_the_ridge(folder):
    """TO-scores are half of (1 - λ/4)², ends are verified saddles, and no minimum is trained anew."""
    ridges = [0.6, 1.2]
    said = toscore(
        "sweep", folder / "wells.yaml", f"loss.ridge={ridges}", "--in-process", "-q", "--json"
    )
    assert said.code == 0, said.err
    steps = json.loads(said.out)
    assert [step["value"] for step in steps] == [0.2, *ridges]
    for step in steps:
        assert step["to_score"] == pytest.approx(bar(step["value"]) / 2, abs=1e-6)
        assert (step["proved"], step["distinct"], step["minima"]) == (2, 1, 2)
        assert (step["bars_at_saddles"], step["bars"]) == (1, 1)
    for name in ("ridge-0.6", "ridge-1.2"):
        rows = results.raw_records(folder / "runs" / "wells-sweep" / name, "minima")
        assert {row["epochs"] for row in rows} == {0}
        assert max(row["judging_gradients"] for row in rows) < 60
    written = {file.name for file in (folder / "runs" / "wells-sweep").iterdir()}
    assert {"steps.csv", "sweep.csv", "sweep.png", "sweep.pdf"} <= written
    header, *rows = (folder / "runs" / "wells-sweep" / "steps.csv").read_text().splitlines()
    assert "bars_at_saddles" in header.split(",") and len(rows) == 3


def test_a_sweep_goes_on(folder):
    """The same command again computes nothing, and a longer list only what is new."""
    command = ("sweep", folder / "wells.yaml", "objective.wall=[1.1]", "--in-process", "-q")
    assert toscore(*command).code == 0
    store = folder / "runs" / "wells-sweep" / "wall-1.1"
    before = results.bits(store)
    said = toscore(*command, "--json")
    assert said.code == 0, said.err
    assert results.bits(store) == before
    assert json.loads(said.out)[1]["to_score"] == pytest.approx(bar(0.2, 1.1) / 2, abs=1e-6)


def test_the_next_run_begins_with_the_one_before(folder):
    """Its minima start from the stored ones and are polished alone, its paths from the stored paths."""
    base = open_run(str(folder / "wells.yaml"))
    run = next_run(base, base.landscape(), base, "loss.ridge", 0.3)
    assert run.loss.ridge == 0.3
    assert (run.minima.total, run.minima.training.epochs, run.minima.training.polish) == (
        2,
        0,
        "on",
    )
    assert (run.paths.start, run.paths.warm_from) == ("moved", base.location)
    assert (run.paths.epochs, run.saddles.rounds) == (EPOCHS, ROUNDS)
    assert run.pairs.pairs == ((0, 1),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("loss.ridge=0.1", "has no list of values"),
        ("loss.ridge=[]", "has no list of values"),
        ("minima.count=[3, 4]", "cannot be swept"),
        ("loss.ridge", "is not KEY=VALUE"),
    ],
)
def test_impossible_sweeps_are_refused(text, message):
    """One sentence that says what to write."""
    with pytest.raises(BadRunFile, match=message):
        parse_sweep(text)
