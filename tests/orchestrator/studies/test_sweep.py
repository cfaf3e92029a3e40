"""`toscore sweep`: minima and paths of a finished run follow a key, and their barcode a closed form."""

import json
from dataclasses import replace
from importlib.resources import files
from math import inf

import pytest

from orchestrator.run_file.errors import BadRunFile
from orchestrator.runs.stored_run import open_run
from orchestrator.studies.sweep import EPOCHS, ROUNDS, next_run, parse_sweep
from orchestrator.studies.sweep_steps import Step, differences
from orchestrator.studies.sweep_view import remarks
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
WAVES = """
import math

import torch


def load():
    x = torch.linspace(-math.pi, math.pi, 101, dtype=torch.float64)
    y = 0.31 * (-x).sin() - 0.72 * (-2 * x).sin() - 0.21 * x.cos() + 0.89 * (2 * x).cos()
    return x[:, None], y[:, None], x[:1, None], y[:1, None]
"""
KNOWN = json.loads(
    (files("topo_core.reference_landscapes") / "known/tanh_regression.json").read_text()
)
PASSES = [
    (number, *saddle["connects"])
    for number, saddle in enumerate(KNOWN["saddles"])
    if saddle["connects"] in ([2, 0], [3, 0], [4, 1])
]
"""Of three passes of the known landscape: the number, and the classes of minima that it joins."""
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
        assert (step["proved"], step["distinct"], step["minima"]) == (2, 2, 2)
        assert (step["bars_at_saddles"], step["bars"]) == (1, 1)
    for name in ("ridge-0.6", "ridge-1.2"):
        rows = results.raw_records(folder / "runs" / "wells-sweep" / name, "minima")
        assert {row["epochs"] for row in rows} == {0}
        assert max(row["judging_gradients"] for row in rows) < 60
    written = {file.name for file in (folder / "runs" / "wells-sweep").iterdir()}
    assert {"steps.csv", "sweep.csv", "sweep.png", "sweep.pdf"} <= written
    header, *rows = (folder / "runs" / "wells-sweep" / "steps.csv").read_text().splitlines()
    assert "bars_at_saddles" in header.split(",") and len(rows) == 3


def test_minima_that_merge_are_reported(folder):
    """With w = λ/4 - 0.1 both minima are polished to the origin: one is left, no bar has a length, and a
    sentence says so. At the origin no distance is small relative to the norm of a minimum."""
    command = ("sweep", folder / "wells.yaml", "loss.ridge=[4.4]", "--in-process", "-q")
    said = toscore(*command, "--json")
    assert said.code == 0, said.err
    before, after = json.loads(said.out)
    assert (before["distinct"], after["distinct"], after["minima"]) == (2, 1, 2)
    assert after["to_score"] == pytest.approx(0, abs=1e-9) and after["bars"] == 0
    assert "1 of 2 different minima are left" in " ".join(toscore(*command).out.split())


STEP = Step(
    value=0.2,
    run="made",
    fresh=False,
    minima=3,
    distinct=3,
    proved=3,
    lowest=0.25,
    unlisted=0,
    lowest_unlisted=None,
    to_score=0.1,
    error=1e-6,
    mean_bar=0.1,
    bars=2,
    bars_at_saddles=2,
    ends=(0.5, 0.6, None),
    gradients=300,
    products=100,
    seconds=1.0,
)


def test_what_a_table_does_not_show_is_said():
    """Another minimum below all that are followed; and the comparison with fresh paths: the differences of
    the ends, unless the sampling errors explain them, and the share of the cost."""
    lower = replace(STEP, value=0.3, unlisted=4, lowest_unlisted=0.2)
    fresh = replace(lower, fresh=True, ends=(0.5, 0.6 + 1e-6, None), gradients=1500)
    other = replace(fresh, ends=(0.501, 0.55, None))
    (reached, same) = remarks("loss.ridge", [STEP, lower, fresh])
    assert "4 minima that are not followed, the lowest at 0.2, below all that are" in reached
    assert "as with fresh paths, within the sampling errors (± 2e-06)" in same
    assert "25% of the cost" in same
    assert "0.001 lower and 0.05 higher" in remarks("loss.ridge", [STEP, lower, other])[-1]
    assert differences(STEP, replace(STEP, ends=(0.5, None, 0.6))) == (0.0, -inf, inf)


@pytest.fixture(scope="module")
def waves(tmp_path_factory):
    """A finished run of a 1-2-1 network with a ridge of 1.3e-3, between minima that are known at 1e-3."""
    import safetensors.torch
    import torch

    folder = tmp_path_factory.mktemp("waves")
    (folder / "sweptwaves.py").write_text(WAVES)
    names = []
    layers = [f"{layer}.{part}" for layer in (1, 3) for part in ("weight", "bias")]
    for number, (k, _, _) in enumerate(PASSES):
        for side, end in enumerate(KNOWN["saddles"][k]["ends"]):
            names.append(f"{number}-{side}.safetensors")
            parts = torch.tensor(end, dtype=torch.float64).split([2, 2, 2, 1])
            shapes = zip(layers, parts, ((2, 1), (2,), (1, 2), (1,)), strict=True)
            state = {name: part.reshape(shape).clone() for name, part, shape in shapes}
            safetensors.torch.save_file(state, folder / names[-1])
    run = {
        "name": "waves",
        "store": str(folder / "runs"),
        "dtype": "float64",
        "data": "sweptwaves:load",
        "network": {"name": "fc", "hidden": [2], "activation": "tanh"},
        "loss": {"name": "mse", "ridge": 1.3e-3},
        "minima": {
            "epochs": 0,
            "count": 0,
            "restarts": {"from": names, "count": 1, "spread": [0]},
        },
        "paths": {"start": "line", "points": 9, "epochs": 60},
        "pairs": {"rule": "list", "pairs": [[2 * k, 2 * k + 1] for k in range(len(PASSES))]},
    }
    (folder / "waves.yaml").write_text(json.dumps(run))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        said = toscore("run", folder / "waves.yaml", "--in-process", "-q")
        assert said.code == 0, said.err
        yield folder


@pytest.mark.slow
def test_the_bars_of_a_sweep_are_those_of_an_independent_search(waves):
    """A sweep from λ = 1.3e-3 to 1e-3 gives the known births and passes of a 1-2-1 network at 1e-3.

    The known numbers come from a search of the whole landscape at 1e-3 by other code. The passes at 1.3e-3
    are 3e-3 and more above them. Paths that are searched for anew end at the same passes, and the sweep
    takes at most a third of their gradients and products.
    """
    command = (
        "sweep",
        waves / "waves.yaml",
        "loss.ridge=[1.0e-3]",
        "--fresh",
        "--in-process",
        "-q",
    )
    said = toscore(*command, "--json")
    assert said.code == 0, said.err
    first, swept, fresh = json.loads(said.out)
    assert [step["fresh"] for step in (first, swept, fresh)] == [False, False, True]
    passes = [KNOWN["saddles"][k]["loss"] for k, _, _ in PASSES]
    for step in (swept, fresh):
        assert sorted(end for end in step["ends"] if end is not None) == pytest.approx(
            sorted(passes), abs=1e-7
        )
        assert (step["bars_at_saddles"], step["bars"]) == (len(PASSES), len(PASSES))
        assert step["lowest"] == pytest.approx(KNOWN["minima"][0]["loss"], abs=1e-9)
    assert sorted(end for end in first["ends"] if end is not None)[0] > min(passes) + 3e-3
    cost = [step["gradients"] + step["products"] for step in (swept, fresh)]
    assert cost[0] <= cost[1] / 3
    said = toscore(*command)
    assert "bars end as with fresh paths" in " ".join(said.out.split())


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
