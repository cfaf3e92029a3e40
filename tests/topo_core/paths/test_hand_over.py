"""The decision when a curve ends and a path begins, on made-up progress figures."""

import math

import pytest

from topo_core.paths.starts.hand_over import Progress, curve_pays


def progress(*heights: float) -> list[Progress]:
    """Heights after 400 gradients and after each doubling of them."""
    return [Progress(400 * 2**k, height) for k, height in enumerate(heights)]


@pytest.mark.parametrize(
    "heights",
    [
        (),
        (1.0,),
        (1.0, 0.5),
        (1.0, 0.95),  # 800 gradients: too early to judge
        (1.0, 0.5, 0.25),
        (3.97e-3, 2.29e-3, 1.27e-3),  # ReLU on minibatches
        (0.128, 0.101, 0.070, 0.042),  # slow at first: the curve enters a lower valley later
        (1.0, 0.0),
    ],
)
def test_a_curve_that_falls_is_trained_on(heights: tuple[float, ...]) -> None:
    """As long as a doubling of the gradients lowers the curve by a tenth, it is trained."""
    assert curve_pays(progress(*heights))


@pytest.mark.parametrize(
    "heights",
    [
        (1.0, 1.0),
        (1.0, 1.1),
        (1.0, 0.5, 0.48),
        (7.78e-3, 5.18e-3, 3.83e-3, 3.47e-3),  # digits: the limit of three control points
        (1.0, math.inf),
        (1.0, math.nan),
    ],
)
def test_a_curve_that_slows_down_is_handed_over(heights: tuple[float, ...]) -> None:
    """A curve that hardly falls, or that has diverged, is followed by the path."""
    assert not curve_pays(progress(*heights))


def test_the_decision_depends_on_ratios_of_heights() -> None:
    """Heights in other units give the same decision, and so does a fall over more than a doubling."""
    for heights in ((1.0, 0.7), (1.0, 0.6, 0.59), (1.0, 0.6, 0.5)):
        scaled = [Progress(p.gradients, 1e6 * p.height) for p in progress(*heights)]
        assert curve_pays(scaled) is curve_pays(progress(*heights))
    assert curve_pays([Progress(1600, 1.0), Progress(6400, 0.80)])  # 0.89 a doubling
    assert not curve_pays([Progress(1600, 1.0), Progress(6400, 0.82)])  # 0.91
    # as low as its end in between, after a part of a doubling
    assert not curve_pays([Progress(300, 0.5), Progress(500, -1e-9), Progress(1000, 0.2)])
