"""`toscore compare`: runs beside each other, each described from its own store."""

import csv
import io
import math

import pytest

import topo_core as tc
from orchestrator.report.comparison.compared_runs import compared, size_of
from orchestrator.report.comparison.matched_pairs import matches, pairs_figure
from orchestrator.report.comparison.scores_against_size import scores_figure
from orchestrator.report.groups import groups_figure, groups_of
from orchestrator.runs.stored_run import open_run
from tests.helpers.command import toscore
from tests.helpers.made_run import HEIGHTS, LOSSES, complete_run, made_run
from tests.orchestrator.report.conftest import RAISED
from workers.tasks.specs import NetworkSpec


def read(comparison, name):
    return list(csv.DictReader(io.StringIO((comparison / "figures" / f"{name}.csv").read_text())))


def test_distances_are_those_of_topo_core(comparison):
    """Between the barcodes of the runs; equal barcodes are at distance 0."""
    found = {
        (r["run"], r["other run"]): float(r["bottleneck distance"])
        for r in read(comparison, "bottleneck-distances")
    }
    low, high = (tc.barcode(list(LOSSES), heights) for heights in (HEIGHTS, RAISED))
    assert found["shallow", "deep"] == tc.bottleneck(low, high) == pytest.approx(0.25)
    assert found["shallow", "plain"] == 0


def test_barcodes_are_those_of_the_runs(comparison):
    """Each bar of each run, under the run's name."""
    bars = {(r["run"], r["minimum"]): float(r["death"]) for r in read(comparison, "barcodes")}
    assert bars["deep", "3"] == 0.8 and bars["shallow", "3"] == pytest.approx(1.05)
    assert math.isinf(bars["normed", "0"]) and len(bars) == 4 * len(LOSSES)


def test_scores_stand_beside_sizes(comparison, compared_runs):
    """Depth and width by what the run file says, parameters by counting those of a minimum."""
    rows = {row["run"]: row for row in read(comparison, "score-against-size")}
    assert (rows["shallow"]["depth"], rows["deep"]["depth"]) == ("1", "2")
    assert rows["plain"]["width"] == "4" and rows["deep"]["parameters"] == "8"  # 2 × 3 + 2
    assert float(rows["deep"]["TO-score"]) == pytest.approx(0.65 / 2)


def test_pairs_differ_in_one_switch_alone(compared_runs):
    """With and without batch norm is a pair; another depth is none."""
    found = matches(compared([open_run(str(made.folder)) for made in compared_runs]))
    assert [(m.switch, m.off.label, m.on.label) for m in found] == [
        ("batch norm", "plain", "normed")
    ]


def test_what_there_is_nothing_to_show_of_is_left_out(tmp_path):
    """Two runs of one network have neither sizes nor pairs to compare."""
    both = compared([open_run(str(complete_run(tmp_path, name).folder)) for name in ("one", "two")])
    assert scores_figure(both) is None and pairs_figure(both) is None


@pytest.mark.usefixtures("undrawn")
def test_the_page_says_what_is_incomplete_or_incomparable(tmp_path):
    """A run without all its paths is named; losses on different data are not compared in silence."""
    one, two = complete_run(tmp_path, "one"), made_run(tmp_path, 4, "two")
    two.minima(dict(enumerate(LOSSES)))
    two.paths({(0, 1): 1.0}, LOSSES)
    said = toscore("compare", one.folder, two.folder, "--out", tmp_path / "out")
    assert said.code == 0 and "two: Incomplete: without 5 of 6 paths" in " ".join(said.out.split())
    page = (tmp_path / "out" / "compare.html").read_text()
    assert "two: Incomplete" in page and "Distances between the barcodes" in page
    assert read(tmp_path / "out", "bottleneck-distances")[0]["bottleneck distance"] == "inf"


def test_groups_are_the_recipes_of_a_run(tmp_path):
    """Minima of one recipe and the passes between them; passes between groups belong to none."""
    recipes = [
        {"count": 2, "optimizer": {"name": "sgd", "lr": 1e-4}},
        {"count": 2, "optimizer": {"name": "sgd", "lr": 1e-2}},
    ]
    made = made_run(tmp_path, 4, minima={"recipes": recipes})
    made.minima(dict(enumerate(LOSSES)))
    made.paths(HEIGHTS, LOSSES)
    run = open_run(str(made.folder))
    groups = groups_of(run.plan, run.landscape())
    assert [group.label for group in groups] == ["lr 0.0001", "lr 0.01"]
    assert [group.heights for group in groups] == [(HEIGHTS[0, 1],), (HEIGHTS[2, 3],)]
    assert [group.losses for group in groups] == [LOSSES[:2], LOSSES[2:]]
    figure = groups_figure(groups)
    assert figure is not None and "lr 0.01: median height 1.2" in figure.alt
    assert groups_figure(groups[:1]) is None


@pytest.mark.parametrize(
    ("spec", "size"),
    [
        (NetworkSpec("fc", (("hidden", (32, 16, 8)),)), (3, 32)),
        (NetworkSpec("fc"), (2, 32)),
        (NetworkSpec("cnn2", (("channels", 64),)), (2, 64)),
        (NetworkSpec("resnet"), (None, None)),
        (NetworkSpec("mine:build"), (None, None)),
    ],
)
def test_sizes_are_what_a_network_says(spec, size):
    """By name and options; nothing is guessed."""
    assert size_of(spec) == size


@pytest.mark.parametrize("count", [1, 2])
def test_what_cannot_be_compared_is_one_sentence(tmp_path, count):
    """One run alone, or a run without minima; exit code 2."""
    made = [made_run(tmp_path, 3, f"r{k}") for k in range(count)]
    said = toscore("compare", *(each.folder for each in made))
    assert said.code == 2
    assert ("name two or more" if count == 1 else "has no minimum yet") in said.err
