"""`toscore escape`: the lowest pass out of one minimum, on surfaces whose passes are known."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import safetensors.torch
import torch

from orchestrator.analysis.escape import POLISHED, Escape, Polish, escape_of
from orchestrator.analysis.landscape import Landscape
from orchestrator.planning.path_status import PairCounts
from orchestrator.run_file.errors import BadRunFile
from orchestrator.run_file.reading import parse
from orchestrator.studies.escape import escape_run, escape_values, with_polish
from tests.helpers.command import toscore
from tests.helpers.results import raw_records

SURFACE = """
import torch


class Surface:
    dimension = 2

    def loss(self, point):
        height = point.new_tensor([-200.0, -100.0, -170.0, 15.0])
        xx, xy = point.new_tensor([-1.0, -1.0, -6.5, 0.7]), point.new_tensor([0.0, 0.0, 11.0, 0.6])
        yy = point.new_tensor([-10.0, -10.0, -6.5, 0.7])
        x = point[0] - point.new_tensor([1.0, 0.0, -0.5, -1.0])
        y = point[1] - point.new_tensor([0.0, 0.5, 1.5, 1.0])
        return (height * (xx * x * x + xy * x * y + yy * y * y).exp()).sum()
"""
RUN = {
    "name": "surface",
    "dtype": "float64",
    "objective": "surfaceloss:Surface",
    "minima": {
        "epochs": 0,
        "polish": "on",
        "restarts": {"count": 8, "spread": [1.0, 2.0]},
    },
    "paths": {"start": "line", "points": 15, "epochs": 60},
    "saddles": {"refine": "bars"},
}
LOWEST, MIDDLE, HIGHEST = (-0.558224, 1.441726), (0.623499, 0.028038), (-0.050011, 0.466694)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A run file of the surface of Müller & Brown, and checkpoints of its three minima."""
    (tmp_path / "surfaceloss.py").write_text(SURFACE)
    (tmp_path / "surface.yaml").write_text(json.dumps({**RUN, "store": str(tmp_path / "runs")}))
    for name, at in (("lowest", LOWEST), ("middle", MIDDLE), ("highest", HIGHEST)):
        point = torch.tensor(at, dtype=torch.float64)
        safetensors.torch.save_file({"point": point}, tmp_path / f"{name}.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_lowest_pass_out_of_a_minimum_is_the_published_one(folder):
    """From a checkpoint in the basin of the highest minimum of Müller & Brown the pass is the saddle of
    -72.2489 to the middle one.

    The lowest minimum lies behind a second, higher saddle. The answer is for the minimum to which the
    checkpoint is polished, and says what the polish changed; the run keeps the checkpoint as it was. The path
    is written as checkpoints that load.
    """
    near = torch.tensor(HIGHEST, dtype=torch.float64) + torch.tensor([0.05, -0.04])
    safetensors.torch.save_file({"point": near}, folder / "near.safetensors")
    command = ("escape", "surface.yaml", "near.safetensors", "--in-process", "-q")
    said = toscore(*command, "--json")
    assert said.code == 0, said.err
    result = json.loads(said.out)
    assert result["height"] == pytest.approx(-72.2489, abs=2e-3)
    assert result["to_loss"] == pytest.approx(-108.1667, abs=1e-3)
    assert result["barrier"] == pytest.approx(-72.2489 + 80.7678, abs=3e-3)
    assert (result["verified"], result["verdict"], result["minimum"]) == (True, "minimum", 1)
    polish = result["polish"]
    assert polish["done"] and polish["norm_before"] > 1 > 1e-6 > polish["norm_after"]
    assert polish["loss_before"] > polish["loss_after"] + 0.1
    assert polish["loss_after"] == pytest.approx(-80.7678, abs=1e-3)
    rows = raw_records(folder / "runs" / "surface-escape", "minima")
    (kept,) = [row for row in rows if row["stop_reason"] == "imported"]
    assert (kept["loss"], kept["polished"]) == (polish["loss_before"], False)
    steps = json.loads((folder / "surface-escape" / "path.json").read_text())
    points = [
        safetensors.torch.load_file(folder / "surface-escape" / step["file"])["point"]
        for step in steps
    ]
    assert torch.allclose(points[0], torch.tensor(HIGHEST, dtype=torch.float64), atol=1e-4)
    assert torch.allclose(points[-1], torch.tensor(MIDDLE, dtype=torch.float64), atol=1e-4)
    assert [step["highest"] for step in steps].count(True) == 1
    assert len(steps) >= 11
    assert "after its polish -80.76" in " ".join(toscore(*command).out.split())


def test_nothing_is_lower_than_the_lowest_minimum(folder):
    """From the global minimum no pass leads to a lower one, and the answer says that none is known.

    With `minima.polish` off nothing is polished, and the answer says nothing of a polish.
    """
    said = toscore(
        "escape",
        "surface.yaml",
        "lowest.safetensors",
        "--in-process",
        "-q",
        "--set",
        "minima.restarts.count=2",
        "--set",
        "minima.polish=off",
    )
    assert said.code == 0, said.err
    assert "is lower, so no pass" in " ".join(said.out.split())
    assert "polish" not in said.out
    assert not (folder / "surface-escape").exists()


def test_the_cost_is_shown_before(folder):
    """`--plan` prints the numbers of minima and paths, and writes nothing."""
    said = toscore("escape", "surface.yaml", "highest.safetensors", "--plan")
    assert said.code == 0, said.err
    assert "at most 9" in said.out and "10" in said.out
    assert "polish of 9 minima: 500 to 10,000 gradients" in " ".join(said.out.split())
    assert not (folder / "runs").exists()


def test_one_checkpoint_is_asked_about(folder):
    """Without a checkpoint, or with two, the message says what to give."""
    with pytest.raises(BadRunFile, match="restarts has no checkpoint"):
        escape_run(folder / "surface.yaml")
    both = json.loads((folder / "surface.yaml").read_text())
    both["minima"]["from"] = ["lowest.safetensors", "middle.safetensors"]
    (folder / "both.yaml").write_text(json.dumps(both))
    with pytest.raises(BadRunFile, match="names 2 checkpoints and escape asks about one"):
        escape_run(folder / "both.yaml")


def test_keys_of_the_run_file_are_kept():
    """Training keys, restarts and budgets of the file count; how many minima it trains does not."""
    values = escape_values(
        {
            "name": "mine",
            "data": "digits",
            "network": "fc",
            "minima": {"from": ["a.pt"], "count": 30, "epochs": 7, "restarts": {"count": 2}},
            "pairs": {"rule": "all", "max_pairs": 5},
        }
    )
    run = parse(values)
    assert (run.name, run.minima.total, run.minima.restart_count) == ("mine-escape", 3, 2)
    assert run.minima.training.epochs == 7
    assert (run.pairs.rule, run.pairs.minimum, run.pairs.max_pairs) == ("from", 0, 5)


def test_the_checkpoint_is_polished_unless_that_is_off():
    """The polished checkpoint is one minimum more, and paths lead from it; without training, and on problems
    that are small if `polish` is auto, with or without a ridge."""
    values = escape_values({"minima": {"from": ["a.pt"], "epochs": 7, "restarts": {"count": 2}}})
    run = parse({**with_polish(values), "data": "digits", "network": "fc"})
    assert (run.minima.total, run.pairs.minimum) == (4, POLISHED)
    first, *others = run.minima.every_training
    assert (first.epochs, first.polish) == (0, "small")
    assert {(training.epochs, training.polish) for training in others} == {(7, "auto")}
    off = {**values, "minima": {**values["minima"], "polish": "off"}}
    assert with_polish(off) == off


def test_the_sentence_says_what_the_polish_changed():
    """A checkpoint of a large problem is not polished, and the sentence names the key that polishes it."""
    done = Escape(0.5, "minimum", 3, 2, polish=Polish(True, 0.75, 0.5, 0.1, 1e-9))
    assert "the loss 0.75 and the gradient norm 0.1, after its polish 0.5 and 1e-09" in str(done)
    large = Escape(0.75, "", 3, 2, polish=Polish(False, 0.75, 0.75, 0.1, 0.1))
    assert 'minima.polish="on" polishes it' in str(large)


def landscape(losses, heights, tolerance=1e-3):
    """Minima with these losses and passes with these heights, not judged."""
    minima = {i: SimpleNamespace(loss=loss, verdict="") for i, loss in enumerate(losses)}
    passes = {pair: SimpleNamespace(height=height) for pair, height in heights.items()}
    counts = PairCounts(len(heights), len(heights), 0, 0)
    return Landscape("made", minima, passes, counts, len(losses), tolerance=tolerance)


def test_the_lowest_of_several_passes():
    """Minima that are higher, or lower by less than the tolerance, do not count as lower."""
    result = escape_of(
        landscape(
            [1.0, 0.5, 0.2, 0.9995, 2.0],
            {(0, 1): 1.75, (0, 2): 1.5, (0, 3): 1.0, (0, 4): 2.0},
        )
    )
    assert (result.lower, result.searched) == (2, 4)
    assert (result.to, result.height, result.barrier) == (2, 1.5, 0.5)
    assert result.verified is False
    assert "upper bound" in str(result)


def test_a_verified_path_counts_though_no_bar_ends_there():
    """From the highest minimum a path leads to the lowest one over a verified saddle.

    The bar of the highest minimum ends lower, on the path to minimum 1, which is lower by less than the
    tolerance and so is no lower minimum here.
    """
    results = landscape([1.0, 0.9995, 0.2], {(0, 1): 1.0, (0, 2): 1.5, (1, 2): 1.4})
    refined = {(0, 2): SimpleNamespace(ended="verified")}
    assert escape_of(replace(results, saddles=refined)).verified is True
    refined = {(0, 2): SimpleNamespace(ended="budget")}
    assert escape_of(replace(results, saddles=refined)).verified is False


def test_lower_minima_without_a_path_are_not_denied():
    """Before a path to a lower minimum is complete, the sentence says so, and not that none is lower."""
    assert "2 of 3 other minima are lower" in str(Escape(0.5, "minimum", 3, 2))
    assert "is lower, so no pass" in str(Escape(0.5, "minimum", 3, 0))
    falls = Escape(0.5, "not stationary", 3, 2, to=1, to_loss=0.2, height=0.5)
    assert "so there is no barrier" in str(falls)
