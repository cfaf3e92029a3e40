"""The search itself reaches the known passes: from the listed minima, with default settings."""

import pytest

from topo_core.paths.optimize import optimize_path
from topo_core.paths.pass_refinement import advance_pass, init_pass
from topo_core.reference_landscapes.registry import LANDSCAPES
from topo_core.reference_landscapes.teacher_student import teacher_student

WITHIN = 0.01  # of the barrier, the height of the pass above the higher of the two minima

QUICK = [("lennard_jones_7", (0, 1)), ("six_hump_camel", (0, 2))]
SLOW = [
    ("lennard_jones_7", (1, 2)),
    ("lennard_jones_7", (1, 3)),
    ("six_hump_camel", (0, 1)),
    ("six_hump_camel", (1, 3)),
    ("schwefel", (0, 1)),
    ("schwefel", (1, 3)),
    ("schwefel", (4, 9)),
]


def reaches(landscape, pair):
    """Optimise the path between two listed minima, and assert that its highest point is the listed pass."""
    start, end = landscape.minima[list(pair)]
    barrier = landscape.passes[pair] - float(landscape.losses[list(pair)].max())
    solution = optimize_path(landscape.objective, start, end)
    assert abs(solution.profile.maximum - landscape.passes[pair]) <= WITHIN * barrier
    if solution.verified is None:  # a run then leads the path over saddles
        state = init_pass(landscape.objective, solution.points)
        while not state.ended:
            state = advance_pass(landscape.objective, state)
        assert state.ended == "verified"
        assert abs(state.best_height - landscape.passes[pair]) <= WITHIN * barrier
        return
    lowest, second = solution.verified.eigenvalues
    assert lowest + solution.verified.error < 0 < second - solution.verified.error


@pytest.mark.parametrize(("name", "pair"), QUICK)
def test_known_passes_are_reached(name, pair):
    """Within 1 % of the barrier, at a point that is proved to be a saddle of index 1."""
    reaches(LANDSCAPES[name](), pair)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "pair"), SLOW)
def test_more_known_passes_are_reached(name, pair):
    """As above, in 0.3 to 4 s each."""
    reaches(LANDSCAPES[name](), pair)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("k", "pair"), [(6, (0, 1)), (7, (0, 1)), (8, (0, 1)), (10, (0, 1)), (10, (1, 2))]
)
def test_passes_of_teacher_and_student_are_reached(k, pair):
    """The lowest known passes from the spurious minima, in 1 to 3 s each."""
    reaches(teacher_student(k), pair)
