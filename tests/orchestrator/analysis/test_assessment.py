"""Estimated errors, merge tree and dips of a run, from records made by hand."""

import json
import math

import pytest

from orchestrator.analysis.assessment import assess
from orchestrator.report.terminal import evidence
from workers.storage.schema import PairRecord


def record(i, j, height, *, high=None, fall=0.0, outcome="converged", losses=None, ends=(0.1, 0.2)):
    losses = losses if losses is not None else [ends[0], height, ends[1]]
    return PairRecord(
        key=f"{i}-{j}",
        i=i,
        j=j,
        a=str(i),
        b=str(j),
        height=height,
        height_high=height if high is None else high,
        argmax_position=0.5,
        positions=[k / (len(losses) - 1) for k in range(len(losses))] if losses else [],
        losses=losses,
        outcome=outcome,
        reason="",
        remaining_fall=fall,
        first_passage_a=height,
        first_passage_b=height,
        dips_a=False,
        dips_b=False,
        epochs=1,
        points=3,
        gradient_evaluations=1,
    )


LOSSES = {0: 0.1, 1: 0.2, 2: 0.3}


def known(**changes):
    records = {
        (0, 1): record(0, 1, 1.0, high=1.05, ends=(0.1, 0.2)),
        (1, 2): record(1, 2, 0.8, high=0.81, fall=0.2, outcome="budget", ends=(0.2, 0.3)),
        (0, 2): record(0, 2, 3.0, high=9.0, fall=7.0, outcome="budget", ends=(0.1, 0.3)),
        **changes.pop("records", {}),
    }
    heights = {pair: one.height for pair, one in records.items()}
    return assess(LOSSES, heights, records)


def test_the_sampling_error_of_a_pass_that_holds_up_no_bar_does_not_count():
    """Epsilon is 0.05, from the pass 0–1; the wide interval of 0–2 is of no bar."""
    error = known().to_json()["sampling_error"]
    assert error["epsilon"] == pytest.approx(0.05)
    assert error["to_score"] == pytest.approx(0.4)
    assert error["to_score_high"] == pytest.approx(0.425)
    assert "not a bound" in error["kind"]


def test_the_fall_of_a_pass_that_holds_up_no_bar_counts():
    """0–2 may fall by 7 to 0.3 and take the place of both passes: minimum 2's bar shortens by 0.5."""
    estimate = known().to_json()["convergence_estimate"]
    assert estimate == {"remaining_fall": pytest.approx(0.5), "passes_not_converged": 2}


def test_the_convergence_estimate_is_not_mixed_with_the_sampling_error():
    """Paths that would fall by 0.5 more leave epsilon what it is, and are a sentence of their own."""
    text = "\n".join(str(line) for line in evidence(known()))
    assert "bars would shorten by up to 0.5 (an estimate, not a bound)" in text
    assert "2 of the 3 paths that end bars, now or then, had not converged" in text
    assert known().sampling.epsilon == pytest.approx(0.05)


def test_heights_at_fixed_points_have_no_error_estimate():
    """With an infinite upper end the JSON has null, and the text says so instead of ± 0."""
    grid = {(0, 1): record(0, 1, 1.0, high=math.inf), (1, 2): record(1, 2, 0.8, high=math.inf)}
    assessed = known(records=grid)
    assert assessed.to_json()["sampling_error"]["epsilon"] is None
    assert "the loss was not evaluated" in "\n".join(str(line) for line in evidence(assessed))


def test_the_merge_tree_and_jackknife_are_in_the_json():
    """Minimum 2 joins 1 first; without minimum 1 the score is that of the pass 0–2."""
    result = json.loads(json.dumps(known().to_json(), allow_nan=False))
    assert [join["saddle"] for join in result["merge_tree"]["joins"]] == [[1, 2], [0, 1]]
    assert [join["height"] for join in result["merge_tree"]["joins"]] == [0.8, 1.0]
    assert result["jackknife"]["scores"]["1"] == pytest.approx((3.0 - 0.3) / 2)
    assert result["dips"] == []


def test_a_dip_inside_a_path_is_reported():
    """A sample between two peaks that is lower than all minima counts as a basin that training has not
    reached."""
    dipped = record(0, 1, 1.0, losses=[0.1, 0.9, 0.05, 1.0, 0.2])
    assessed = known(records={(0, 1): dipped})
    (dip,) = assessed.to_json()["dips"]
    assert (dip["i"], dip["j"], dip["position"], dip["loss"]) == (0, 1, 0.5, 0.05)
    deaths = {bar["minimum"]: bar["death"] for bar in assessed.to_json()["first_passage"]}
    assert deaths[0] == 0.9  # it reaches the dip before any minimum
    assert "training has not reached" in "\n".join(str(t) for t in evidence(assessed))


def test_without_profiles_dips_are_unknown_and_not_absent():
    """Where profiles were left in the store the answer is null."""
    bare = record(0, 1, 1.0, losses=[])
    assert known(records={(0, 1): bare}).to_json()["dips"] is None


def test_bars_without_length_are_explained():
    """Passes at their higher ends: no bar is longer than ±, and the text explains it."""
    passes = {
        (0, 1): record(0, 1, 0.2, high=0.2 + 1e-9, ends=(0.1, 0.2)),
        (1, 2): record(1, 2, 0.3, high=0.3 + 1e-9, ends=(0.2, 0.3)),
    }
    sentence = "does not rise"
    assert sentence in "\n".join(str(line) for line in evidence(known(records=passes)))
    assert sentence not in "\n".join(str(line) for line in evidence(known()))
    del passes[1, 2]  # minimum 2 is left unconnected: from there no path is known
    apart = assess(LOSSES, {(0, 1): 0.2}, passes)
    assert sentence not in "\n".join(str(line) for line in evidence(apart))
