"""Measures of a run that claims are about."""

import warnings
from types import SimpleNamespace

import pytest

from orchestrator.studies.measures import MEASURES
from topo_core import barcode
from topo_core.homology.bar_ends import EndKind


def run(heights, accuracies=(0.9, 0.8, 0.7, 0.6)):
    """Four minima at losses 0, 1, 2, 3, each joined with the lowest at a height."""
    losses = [0.0, 1.0, 2.0, 3.0]
    bars = barcode(losses, {(0, i): height for i, height in enumerate(heights, start=1)})
    minima = [SimpleNamespace(test_accuracy=accuracy) for accuracy in accuracies]
    return SimpleNamespace(minima=minima, barcodes={"direct": bars, "elder": bars})


@pytest.mark.parametrize(
    ("heights", "expected"),
    [((1.5, 3.0, 5.0), 1.0), ((3.0, 3.0, 3.0), -1.0), ((1.0, 2.0, 3.0), None)],
)
def test_bars_with_errors(heights, expected):
    """Longer bars with larger errors, with smaller ones, and bars of no length, which say nothing."""
    _, measure = MEASURES["bar_with_error"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = measure(run(heights))
    assert found == (None if expected is None else pytest.approx(expected))


def test_nothing_can_be_said_of_two_bars():
    """A rank correlation of two is 1 or -1 whatever they are."""
    _, measure = MEASURES["bar_with_error"]
    landscape = run((1.5, 3.0, 5.0))
    landscape.barcodes["direct"] = barcode([0.0, 1.0, 2.0], {(0, 1): 1.5, (0, 2): 3.0})
    assert measure(landscape) is None


def test_shares_of_what_is_proved():
    """Two of four minima and one of two barriers are verified; without any verdict there is no share."""
    _, minima = MEASURES["verified_minima"]
    _, ends = MEASURES["verified_ends"]
    verdicts = ("minimum", "kink", "minimum", "flat")
    judged = {i: SimpleNamespace(verdict=verdict) for i, verdict in enumerate(verdicts)}
    kinds = [EndKind.SADDLE, EndKind.ATTAINED, EndKind.NO_BARRIER]
    verified = SimpleNamespace(ends=kinds, count=kinds.count)
    assert minima(SimpleNamespace(minima=judged)) == 0.5
    assert ends(SimpleNamespace(verified=verified)) == 0.5
    unjudged = {0: SimpleNamespace(verdict="")}
    assert minima(SimpleNamespace(minima=unjudged)) is None
    assert ends(SimpleNamespace(verified=None)) is None
