"""Who reads the saddles of a run: load_run, status, watch, reports, and runs that reuse it."""

import json
from dataclasses import replace

import pytest
import torch

from orchestrator.analysis.computing_cost import cost_of
from orchestrator.analysis.reduction import reduce_run
from orchestrator.dashboard.progress import counts_of
from orchestrator.planning.saddle_refinement import saddle_task
from orchestrator.report.anytime import anytime_bars
from orchestrator.report.write import report_page
from orchestrator.run_file.errors import UserError
from orchestrator.runs.api import load_run
from orchestrator.runs.reuse import reuse
from tests.helpers.command import toscore
from tests.helpers.made_run import complete_run
from workers.storage.schema import UNMEASURED, SaddleRecord

PATH = torch.tensor([[0.0, 0.0], [0.5, 1.0], [1.0, 0.0]], dtype=torch.float64)


@pytest.fixture
def made(tmp_path):
    """A run of four minima whose path 1–3 was led over a saddle; two paths that end bars were not yet."""
    made = complete_run(tmp_path, saddles={"refine": "bars"})
    keys, task = made.plan.minimum_keys, saddle_task(made.plan, (1, 3), made.plan.pair_key((1, 3)))
    tensors = {"points": PATH, "point": PATH[1:2], "saddles": PATH[1:2], "ends": PATH[[0, 2]]}
    record = SaddleRecord(
        key=task.key,
        path=task.path,
        i=1,
        j=3,
        loss=0.65,
        peak_loss=0.7,
        gradient_norm=1e-9,
        gradient_tolerance=1e-8,
        eigenvalues=(-0.5, 0.25),
        eigenvalue_bounds=(1e-3, 1e-3),
        index=1,
        verdict="saddle",
        reason="a saddle",
        joins=(keys[1], keys[3]),
        ended="verified",
        saddle_losses=(0.65,),
        end_losses=(0.31, 0.15),
        ends=("", keys[3]),
        **UNMEASURED
        | {
            "height": 0.65,
            "height_high": 0.65,
            "argmax_position": 0.5,
            "positions": (0.0, 0.5, 1.0),
            "losses": (0.2, 0.65, 0.15),
            "points": 3,
        },
        gradients=40,
        products=60,
        seconds=2.0,
        object=made.store.publish_saddle(task.key, tensors),
    )
    made.store.publish_records([record], term=1)
    return made


def test_load_run_has_the_path_over_the_saddle_and_the_saddle(made):
    """The path of the pair is the one that was led over the saddle; ends of descents come with the saddle."""
    run = load_run(str(made.folder))
    assert not run.complete
    path = run.path(1, 3)
    assert path.height == 0.65 and (path.points == PATH.numpy()).all()
    assert (path.at("peak") == PATH[1]).all()
    assert run.saddles[1, 3].loss == 0.65
    saddle = run.saddle(3, 1)
    assert (saddle["point"] == PATH[1:2].numpy()).all() and saddle["ends"].shape == (2, 2)
    with pytest.raises(UserError, match=r"no saddle of the path 0–1: set saddles\.refine to all"):
        run.saddle(0, 1)


def test_status_and_watch_count_saddles(made):
    """As tasks to come and done, and with what each kind of work has cost."""
    status = json.loads(toscore("status", made.folder, "--json").out)
    assert not status["complete"]
    assert status["saddles"] == {"total": 3, "done": 1}
    assert status["bars_end_at"] == {"saddle": 1, "kink": 0, "attained": 2, "no barrier": 0}
    cost = {row["work"]: row for row in status["cost"]}
    row = cost["refinement of paths, verified saddles"]
    assert (row["tasks"], row["gradients"], row["products"], row["seconds"]) == (1, 40, 60, 2.0)
    assert cost["optimisation of paths"]["gradients"] > 0
    text = toscore("status", made.folder).out
    assert "saddles" in text and "1 of 3" in text and "refinement of paths" in text
    (count,) = [c for c in counts_of(load_run(str(made.folder)).landscape) if c.kind == "saddles"]
    assert (count.total, count.done, count.left) == (3, 1, 2)


def test_no_bar_is_decided_while_paths_are_led_over_saddles(made, tmp_path):
    """All paths are done, and their heights may still fall; without refinement nothing changes any more."""
    bars = anytime_bars(reduce_run(made.plan, made.store), adaptive=False)
    assert [bar.settled for bar in bars] == [bar.birth for bar in bars]
    assert not any(bar.decided for bar in bars)
    plain = complete_run(tmp_path / "plain", saddles={"refine": "off"})
    assert all(
        bar.decided for bar in anytime_bars(reduce_run(plain.plan, plain.store), adaptive=False)
    )


def test_reduce_says_which_minima_descents_have_met(made):
    """And that saddles are missing."""
    text = " ".join(toscore("reduce", made.folder).out.split())
    assert "without 2 of 3 saddles" in text
    assert "end at 1 minimum that is not in this run, the lowest at a loss of 0.31" in text


def test_the_report_has_tables_of_bar_ends_and_of_cost(made):
    """A row for each finite bar, and one for each kind of work, each in a section of the page."""
    run = load_run(str(made.folder))
    page = report_page(run.started, run.landscape, [])
    tables = {item.name: item.table.to_csv() for part in page.sections for item in part.tables}
    rows = tables["bar-ends"].splitlines()
    assert rows[0].startswith("minimum,path,ends at,loss,gradient norm") and len(rows) == 4
    assert any("1–3,saddle,0.65" in row for row in rows)
    assert "refinement of paths" in tables["cost"]


def test_every_kind_of_work_has_its_gradients_and_products(made):
    """The table adds up the columns of the records: training and paths beside polish and saddles."""
    minima = [
        replace(
            record,
            training_gradients=30,
            judging_gradients=200 + number,
            judging_products=100 + number,
        )
        for number, record in load_run(str(made.folder)).minima.items()
    ]
    landscape = load_run(str(made.folder)).landscape
    rows = cost_of(minima, landscape.passes.values(), (), landscape.saddles.values())
    assert {row.work: (row.tasks, row.gradients, row.products) for row in rows} == {
        "training of minima": (4, 120, None),
        "polish and verdicts of minima": (4, 806, 406),
        "optimisation of paths": (6, 120, None),
        "refinement of paths, verified saddles": (1, 40, 60),
    }


def test_the_path_of_a_pair_has_the_measures_of_its_refined_path(made):
    """Every column that depends on the points is that of the refined path; the rest is of the pair's task."""
    landscape = load_run(str(made.folder)).landscape
    record, before = landscape.passes[1, 3], landscape.as_optimised[1, 3]
    assert record.measures == landscape.saddles[1, 3].measures != before.measures
    assert (record.key, record.epochs) == (before.key, before.epochs)
    assert record.outcome == "converged"


def test_compare_counts_the_bars_that_end_at_verified_saddles(made, tmp_path):
    """For each run; a run whose paths were not refined has a dash."""
    plain = complete_run(tmp_path / "plain", name="plain")
    text = toscore("compare", made.folder, plain.folder).out
    assert "bars at" in text and "verified" in text
    lines = [line.rstrip() for line in text.splitlines()]
    assert any(line.startswith("plain") and line.endswith("–") for line in lines)
    assert "1 of 3" in text


def test_another_run_reuses_saddles_of_equal_paths(made, tmp_path):
    """Saddles with equal keys are copied with their objects; without refinement none is."""
    other = complete_run(tmp_path / "other", saddles={"refine": "bars"})
    assert reuse(other.plan, other.store, [made.store], 1) == 1
    (record,) = other.store.records(SaddleRecord)
    assert (other.store.read_saddle(record.object)["points"] == PATH).all()
    plain = complete_run(tmp_path / "plain", saddles={"refine": "off"})
    assert reuse(plain.plan, plain.store, [made.store], 1) == 0
    rounds = complete_run(tmp_path / "rounds", saddles={"refine": "bars", "rounds": 2})
    assert reuse(rounds.plan, rounds.store, [made.store], 1) == 0


def test_a_saddle_of_other_rounds_is_not_that_of_this_run(made):
    """The number of rounds is part of the key: a record of another number changes nothing here."""
    run = made.plan.run
    more = replace(
        made.plan,
        run=run.model_copy(update={"saddles": run.saddles.model_copy(update={"rounds": 2})}),
    )
    landscape = reduce_run(more, made.store)
    assert not landscape.saddles and landscape.passes[1, 3].height != 0.65
