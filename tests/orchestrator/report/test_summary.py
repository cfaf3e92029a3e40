"""The top of a report: three sentences to quote, and no figure that shows nothing."""

import html

import pytest

from orchestrator.report.contents import figures, points_of
from orchestrator.runs.stored_run import open_run
from tests.helpers.command import toscore
from tests.helpers.made_run import HEIGHTS, LOSSES, complete_run, made_run


def names_of(folder):
    run = open_run(str(folder))
    landscape = run.landscape()
    return {figure.name for figure in figures(run.plan, landscape, points_of(run, landscape))}


def test_the_page_opens_with_what_was_asked_found_and_verified(made, report):
    """The longest bar, its path and the score are those of `reduce`, and unverified ends are named."""
    page = html.unescape((report / "report.html").read_text())
    landscape = open_run(str(made.folder)).landscape()
    longest = landscape.barcodes["elder"].longest
    assert f"{len(LOSSES)} minima" in page and f"joined by {len(HEIGHTS)} paths" in page
    assert f"The TO-score is {landscape.to_scores['elder']:.4g}: the longest finite bar" in page
    assert f"to {longest.death:.4g} on path {longest.saddle[0]}–{longest.saddle[1]}." in page
    assert "no saddle was searched for" in page


@pytest.mark.usefixtures("undrawn")
def test_figures_of_bar_lengths_are_left_out_where_no_bar_has_one(tmp_path):
    """Where no bar has a length, a sentence replaces the figures of lengths."""
    flat = made_run(tmp_path, len(LOSSES), "flat")
    flat.minima(dict(enumerate(LOSSES)))
    flat.paths({(i, j): max(LOSSES[i], LOSSES[j]) for i, j in HEIGHTS}, LOSSES)
    shown = names_of(flat.folder)
    assert "barcode-0" in shown
    assert not shown & {"persistence-diagram", "length-and-test-error"}
    said = toscore("report", flat.folder, "--out", tmp_path / "out")
    assert said.code == 0, said.err
    page = html.unescape((tmp_path / "out" / "report.html").read_text())
    assert "No finite bar is longer than its sampling error." in page
    assert "no barrier was found" in page


@pytest.mark.usefixtures("undrawn")
def test_two_bars_are_set_in_no_relation_to_test_errors(tmp_path):
    """For two bars, through which any line fits, a sentence replaces the figure of lengths and test
    errors."""
    small = made_run(tmp_path, 3, "small")
    small.minima(dict(enumerate(LOSSES[:3])))
    small.paths({p: h for p, h in HEIGHTS.items() if max(p) < 3}, LOSSES)
    shown = names_of(small.folder)
    assert "persistence-diagram" in shown and "length-and-test-error" not in shown
    assert toscore("report", small.folder, "--out", tmp_path / "out").code == 0
    page = html.unescape((tmp_path / "out" / "report.html").read_text())
    assert "2 finite bars say nothing about a relation" in page


@pytest.mark.usefixtures("undrawn")
def test_a_run_that_asks_for_passes_from_one_minimum_opens_with_the_answer(tmp_path):
    """The other minima of such a run are not connected, so no infinite TO-score stands at the top: minimum 2
    of loss 0.3 is left over the pass at 0.5 to minimum 1 of loss 0.2."""
    made = complete_run(tmp_path, "asked", pairs={"rule": "from", "minimum": 2})
    said = toscore("report", made.folder, "--out", tmp_path / "out")
    assert said.code == 0, said.err
    page = html.unescape((tmp_path / "out" / "report.html").read_text())
    top = page[: page.index("<section")]
    assert "how hard it is to leave minimum 2" in top
    assert (
        "The lowest pass to one of them has the height 0.5, a barrier of 0.2 (an upper bound" in top
    )
    assert "Barrier" in top and "TO-score" not in top and "infinite" not in top
    assert "were not run" not in page
