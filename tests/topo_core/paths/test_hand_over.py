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
        (1.0, 0.5, 0.25),
        (1.0, 0.64, 0.40),
        (3.97e-3, 2.29e-3, 1.27e-3),  # minibatches: the curve alone ends at half of the height
        (1.0, 0.0),
    ],
)
def test_a_curve_that_falls_fast_is_trained_on(heights: tuple[float, ...]) -> None:
    """As long as a doubling of the gradients lowers the curve by more than a quarter, it is trained."""
    assert curve_pays(progress(*heights))


@pytest.mark.parametrize(
    "heights",
    [
        (1.0, 0.8),
        (1.0, 0.5, 0.45),
        (1.0, 1.1),
        (7.78e-3, 5.18e-3, 3.83e-3),  # digits: the next doubling lowers the curve by a tenth
        (1.0, math.inf),
        (1.0, math.nan),
    ],
)
def test_a_curve_that_slows_down_is_handed_over(heights: tuple[float, ...]) -> None:
    """A curve whose falls get smaller, or that has diverged, is followed by the path."""
    assert not curve_pays(progress(*heights))


def test_the_decision_depends_on_ratios_alone() -> None:
    """Heights in other units, and the same falls over more than a doubling, give the same decisions."""
    for heights in ((1.0, 0.7), (1.0, 0.8), (1.0, 0.6, 0.5)):
        scaled = [Progress(10 * p.gradients, 1e6 * p.height) for p in progress(*heights)]
        assert curve_pays(scaled) is curve_pays(progress(*heights))
    assert curve_pays([Progress(400, 1.0), Progress(1600, 0.5)])  # 0.71 a doubling
    assert not curve_pays([Progress(400, 1.0), Progress(1600, 0.6)])  # 0.77
    # as low as its end in between, after a part of a doubling
    assert not curve_pays([Progress(300, 0.5), Progress(500, -1e-9), Progress(1000, 0.2)])
