"""The sentence above the barcode about what the minima are."""

from dataclasses import replace

import pytest

from orchestrator.analysis.reduction import reduce_run
from orchestrator.analysis.verdicts import verdicts_of
from orchestrator.report.terminal import barcode_view
from tests.helpers.made_run import complete_run
from tests.helpers.records import minimum_record


def judged(verdict, norm=1e-9, lowest=0.5, bound=1e-3):
    return replace(
        minimum_record("a"),
        verdict=verdict,
        gradient_norm=norm,
        eigenvalues=(lowest, 1.0),
        eigenvalue_bounds=(bound, bound),
    )


def test_all_points_are_minima():
    """The largest gradient norm and the lowest curvature, with its bound."""
    records = [judged("minimum"), judged("minimum", 3e-9, 2.1e-4, 1e-6)]
    sentence = verdicts_of(records).sentence()
    assert sentence == "2 of 2 are minima: ‖∇L‖ ≤ 3e-09, lowest curvature 0.00021 ± 1e-06."


def test_other_verdicts_are_counted():
    """Numbers are those of the minima alone: a saddle has a lower curvature."""
    records = [judged("minimum"), judged("saddle", lowest=-1.0), judged("kink"), judged("kink")]
    verdicts = verdicts_of(records)
    assert verdicts.sentence().endswith("lowest curvature 0.5 ± 0.001; 2 kink, 1 saddle.")
    assert verdicts.to_json()["counts"] == {"minimum": 1, "saddle": 1, "kink": 2}


def test_minima_up_to_symmetries_are_counted():
    """A flat point whose zero modes are all explained is one; a flat point with others is not."""
    explained = replace(judged("flat"), zero_modes=3, symmetry_modes=3)
    partly = replace(judged("flat"), zero_modes=3, symmetry_modes=2)
    verdicts = verdicts_of([judged("minimum"), explained, partly])
    words = "2 flat (1 of them minima up to exact symmetries)."
    assert verdicts.sentence().endswith(words)
    assert verdicts.to_json()["minima_up_to_symmetry"] == 1
    alone = verdicts_of([explained, explained]).sentence()
    assert alone.startswith("All 2 points are minima up to exact symmetries of the network")


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        ("not stationary", "None of the 2 points is a minimum; 2 not stationary"),
        ("", "None of the 2 points was judged"),
    ],
)
def test_what_to_do_where_none_is_a_minimum(verdict, words):
    """Bars are then about points where training stopped, and the sentence says how to change that."""
    sentence = verdicts_of([judged(verdict), judged(verdict)]).sentence()
    assert sentence.startswith(words)
    assert "points where training stopped" in sentence and "minima.polish" in sentence


def test_the_verdict_is_above_the_barcode_and_in_the_json(tmp_path):
    """For points without a verdict the line above the barcode says so, and the JSON has null."""
    made = complete_run(tmp_path)
    landscape = reduce_run(made.plan, made.store)
    first = str(barcode_view(landscape).renderables[1])
    assert first.startswith("None of the 4 points was judged")
    result = landscape.to_json()
    assert result["verdicts"]["minima"] == 0 and result["minima"][0]["verdict"] is None


def test_kinks_are_not_answered_with_a_ridge():
    """Where every point is a kink, a ridge or a polish changes nothing: the sentence names the activation."""
    records = [judged("kink") for _ in range(2)]
    sentence = verdicts_of(records).sentence()
    assert "2 kink" in sentence and "smooth activation" in sentence and "ridge" not in sentence
    mixed = verdicts_of([*records, judged("not stationary")]).sentence()
    assert "add loss.ridge" in mixed
