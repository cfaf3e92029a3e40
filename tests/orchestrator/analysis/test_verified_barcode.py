"""Verified saddles and classes of copies in the landscape of a run filled by hand."""

import io
import json
import math
from dataclasses import replace

import pytest
from rich.console import Console

from orchestrator.analysis.reduction import reduce_run
from orchestrator.report.terminal import barcode_view
from orchestrator.runs.api import load_run
from tests.helpers.made_run import complete_run
from topo_core.homology.bar_ends import EndKind, RefinedPeak


def peak(loss, ends, verdict="saddle"):
    return RefinedPeak(verdict, loss, 1e-9, (-0.25, 0.125), (1e-3, 1e-3), ends)


def landscape_with(tmp_path, **values):
    made = complete_run(tmp_path)
    return replace(reduce_run(made.plan, made.store), **values)


def test_bars_of_paths_and_of_saddles_stand_side_by_side(tmp_path):
    """Of three finite bars one ends at a saddle, one at a kink, and one at a height of a path."""
    landscape = landscape_with(
        tmp_path, peaks={(1, 3): peak(0.6999, (1, 3)), (1, 2): peak(0.5, None, "kink")}
    )
    verified = landscape.verified
    kinds = {end.minimum: end.kind for end in verified.ends}
    assert kinds == {3: EndKind.ATTAINED, 1: EndKind.SADDLE, 2: EndKind.KINK}
    assert [(bar.minimum, bar.death) for bar in verified.barcode.finite] == [(1, 0.6999)]
    assert sorted(difference.minimum for difference in verified.differences) == [2, 3]
    result = json.loads(json.dumps(landscape.to_json(), allow_nan=False))["verified"]
    assert result["counts"] == {"saddle": 1, "kink": 1, "attained": 1, "no barrier": 0}
    assert result["to_score"] is None  # two minima are not connected by verified saddles
    (of_1,) = [end["peak"] for end in result["bar_ends"] if end["minimum"] == 1]
    assert of_1["gradient_norm"] == 1e-9 and of_1["joins"] == [1, 3]
    assert (of_1["eigenvalues"], of_1["eigenvalue_bounds"]) == ([-0.25, 0.125], [1e-3, 1e-3])


def test_both_barcodes_agree_where_every_peak_is_a_saddle(tmp_path):
    """The TO-score of the saddles is that of the paths, up to how far these are above them."""
    landscape = landscape_with(
        tmp_path,
        peaks={
            (1, 3): peak(0.7, (1, 3)),
            (1, 2): peak(0.5, (2, 1)),
            (0, 3): peak(0.7999, (0, 3)),
        },
    )
    assert not landscape.verified.differences
    assert landscape.verified.to_score == (0.7999 - 0.15) / 2


def test_the_terminal_says_what_bars_end_at(tmp_path):
    """A column of ends, their counts, and one sentence for each reason why bars differ."""
    landscape = landscape_with(
        tmp_path,
        peaks={(1, 3): peak(0.6999, (1, 3)), (1, 2): peak(0.5, None, "kink")},
        classes=lambda: {0: 0, 1: 1, 2: 2, 3: 0},
    )
    console = Console(width=100, file=io.StringIO(), record=True)
    console.print(barcode_view(landscape, 100))
    text = " ".join(console.export_text().split())
    assert "ends at" in text and "1–3 saddle" in text and "1–2 kink" in text
    assert "bars: 1 verified saddle, 1 kink of the loss, 1 height attained on a path" in text
    assert (
        "Minimum 2: no verified saddle leads lower: the highest point of its path is a kink."
        in text
    )
    assert "3 classes of 4 minima, TO-score 0.25" in text


def test_tables_have_every_barcode_of_index_0(tmp_path):
    """By method: of paths, of verified saddles alone, and of classes of copies; and what bars end at."""
    made = complete_run(tmp_path)
    run = load_run(str(made.folder))
    landscape = replace(
        run.landscape, peaks={(1, 3): peak(0.7, (1, 3))}, classes=lambda: {0: 0, 1: 1, 2: 2, 3: 0}
    )
    run = replace(run, landscape=landscape)
    bars, scores = run.frame("bars"), run.frame("scores").set_index("method")
    assert bars.method.value_counts().to_dict() == {
        "elder": 4,
        "direct": 4,
        "saddles": 4,
        "quotient": 3,
    }
    ends = bars[bars.method == "elder"].set_index("minimum").ends_at.dropna().to_dict()
    assert ends == {3: "attained", 1: "saddle", 2: "attained"}  # the bar of 0 does not end
    assert scores.to_score["quotient"] == pytest.approx(0.25)
    assert scores.to_score["saddles"] == math.inf


def test_without_refined_peaks_nothing_is_claimed(tmp_path):
    """No key appears that a reader could take for a verification."""
    landscape = landscape_with(tmp_path)
    assert landscape.verified is None
    assert "verified" not in landscape.to_json()


def test_the_barcode_of_classes_stands_beside_that_of_minima(tmp_path):
    """Minima 0 and 3 as copies: the bar of 3 against its copy is not one of the quotient."""
    landscape = landscape_with(tmp_path, classes=lambda: {0: 0, 1: 1, 2: 2, 3: 0})
    quotient = landscape.to_json()["quotient"]
    assert quotient["classes"] == [[0, 3], [1], [2]]
    deaths = {bar["minimum"]: bar["death"] for bar in quotient["barcode"]}
    assert deaths == {0: None, 1: 0.7, 2: 0.5}
    assert len(landscape.barcodes["elder"].bars) == 4
    assert quotient["to_score"] == pytest.approx(0.25)
