"""What paths that were not run can still change in a barcode."""

from orchestrator.analysis.open_bounds import open_bounds

LOSSES = {0: 0.1, 1: 0.2, 2: 0.3}
HEIGHTS = {(0, 1): 0.5, (0, 2): 0.6, (1, 2): 0.7}


def test_all_paths_between_all_minima_leave_nothing_open():
    """Then every bar is proved."""
    bounds = open_bounds(LOSSES, HEIGHTS, 3, 1e-3)
    assert bounds.proved and bounds.to_json()["missing_minima"] == 0


def test_nothing_is_proved_while_minima_are_missing():
    """A path to a minimum without a result may lead lower, although all paths between the others are run."""
    bounds = open_bounds(LOSSES, HEIGHTS, 5, 1e-3)
    assert bounds.pairs == 0 and bounds.missing == 2 and not bounds.proved
    assert bounds.to_json()["proved"] is False


def test_a_missing_path_lowers_a_bar_to_its_floor_at_most():
    """The bar of minimum 1 may fall to its own loss; with a tolerance above its length it cannot matter."""
    fewer = {(0, 2): 0.6, (1, 2): 0.7}
    bounds = open_bounds(LOSSES, fewer, 3, 1e-3)
    assert bounds.pairs == 1 and bounds.death_low == {1: 0.2} and not bounds.proved
    assert open_bounds(LOSSES, fewer, 3, 1.0).proved
