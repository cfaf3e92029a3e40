"""For every start heights follow L → aL + b, and stay under orthogonal maps and one scale of all axes.

Coordinates that are scaled one by one change what descents and curves reach with a budget. CONVERGED must
then still be true (``test_counter_evidence.py``), and the search over saddles alone keeps the height.
"""

import math

import pytest
import torch

from topo_core.objectives.protocol import from_function
from topo_core.paths.convergence import Outcome
from topo_core.paths.optimize import optimize_path
from topo_core.paths.settings import PathSettings
from topo_core.paths.start_registry import STARTS

ENDS = torch.tensor([[-1.0, 0.0, 0.0], [1.0, 0.0, 0.0]], dtype=torch.float64)


def bent(points):
    """A curved valley in three dimensions; its pass is at (0, 1, 0) and 1 high."""
    x, y, z = points.T
    return (x**2 - 1) ** 2 + 4 * (y - 1 + x**2) ** 2 + 2 * (z - 0.5 * x * (1 - x**2)) ** 2


def orthogonal():
    """A rotation followed by a cyclic permutation and a reflection."""
    c, s = math.cos(0.7), math.sin(0.7)
    turn = torch.tensor([[c, -s, 0], [s, c, 0], [0, 0, 1]], dtype=torch.float64)
    tilt = torch.tensor([[1, 0, 0], [0, s, -c], [0, c, s]], dtype=torch.float64)
    swap = torch.tensor([[0, 1, 0], [0, 0, -1], [1, 0, 0]], dtype=torch.float64)
    return swap @ tilt @ turn


UNITS = [(50.0, 0.01, 100.0), (0.02, 1e5, -3.0)]
CASES = [(name, UNITS[0]) for name in STARTS if STARTS[name].needs == "loss"]


@pytest.mark.parametrize(("start", "units"), [*CASES, ("line", UNITS[1]), ("saddles", UNITS[1])])
def test_heights_follow_the_loss_and_no_coordinates(start, units):
    """One height and one outcome, whatever the units of the loss and of the parameters, and their axes."""
    unit, scale, shift = units
    to = unit * orthogonal()
    back = torch.linalg.inv(to)
    moved = from_function(lambda p: scale * bent(p @ back.T) + shift, 3)
    found = optimize_path(moved, *(ENDS @ to.T), PathSettings(start=start))
    assert (found.profile.maximum - shift) / scale == pytest.approx(1.0, abs=0.01)
    assert found.outcome is Outcome.CONVERGED
