"""What a longer optimisation of paths would change in the barcode."""

import math

from hypothesis import given
from hypothesis import strategies as st

from tests.topo_core.homology.test_barcodes import landscapes
from topo_core.homology.barcodes import barcode
from topo_core.homology.convergence_estimate import estimate_convergence


def test_an_unconverged_challenger_shortens_a_bar_that_a_converged_path_holds():
    """The path 0-1 holds the bar and has converged; the one through 2, a little higher, has not."""
    heights = {(0, 1): 2.0, (0, 2): 2.1, (1, 2): 0.5}
    falls = {(0, 1): 0.0, (0, 2): 0.6, (1, 2): 0.0}
    estimate = estimate_convergence([0.0, 0.1, 0.2], heights, falls, {(0, 1), (1, 2)})
    assert estimate.largest_fall == 0.5
    assert estimate.unconverged == {(0, 2)}


def test_a_path_that_cannot_reach_a_bar_does_not_count():
    """Lowered by all that it may fall, the path 0-1 is still above the one that holds the bar."""
    estimate = estimate_convergence(
        [0.0, 0.1], {(0, 1): 5.0, (1, 0): 2.0}, {(0, 1): 2.5, (1, 0): 0.0}, {(1, 0)}
    )
    assert estimate.largest_fall == 0.0
    assert not estimate.unconverged


def test_a_path_without_a_step_may_fall_to_its_ends():
    """Nothing is known of its fall: it is taken to its higher end, and not to infinity."""
    estimate = estimate_convergence([0.0, 0.25], {(0, 1): 2.0}, {(0, 1): math.inf}, ())
    assert estimate.largest_fall == 1.75


@given(landscapes(complete=True), st.data())
def test_falls_up_to_the_estimates_change_no_bar_by_more(landscape, data):
    """Whatever part of its estimated fall each path makes, no bar shortens by more than was said."""
    losses, heights = landscape
    falls = {pair: data.draw(st.floats(0, 4)) for pair in heights}
    later = {
        (i, j): max(losses[i], losses[j], height - data.draw(st.floats(0, 1)) * falls[i, j])
        for (i, j), height in heights.items()
    }
    estimate = estimate_convergence(losses, heights, falls, ())
    for before, after in zip(
        barcode(losses, heights).bars, barcode(losses, later).bars, strict=True
    ):
        if math.isfinite(before.death):
            assert before.death - after.death <= estimate.largest_fall + 1e-12
