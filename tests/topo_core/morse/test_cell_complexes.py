"""Loops and discs of a cell complex against GUDHI and by hand."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topo_core.homology.filtrations import filtration
from topo_core.homology.persistent_homology import persistence
from topo_core.morse.candidate_loops import candidate_loops
from topo_core.morse.cell_complexes import CellComplex


@given(st.integers(3, 6), st.integers(0, 10**6))
def test_triangles_give_what_gudhi_gives(count, seed):
    """Where edges are pairs and discs are triangles, the bars are those of the simplex tree."""
    draw = np.random.default_rng(seed)
    pairs = list(itertools.combinations(range(count), 2))
    heights = draw.integers(1, 20, len(pairs)).astype(float)
    place = {pair: number for number, pair in enumerate(pairs)}
    chosen = [t for t in itertools.combinations(range(count), 3) if draw.random() < 0.6]
    values = draw.integers(1, 30, len(chosen)).astype(float)
    bars = CellComplex(
        count,
        pairs,
        heights.tolist(),
        [frozenset(place[pair] for pair in itertools.combinations(t, 2)) for t in chosen],
        values.tolist(),
    ).loop_bars()
    found = filtration(
        [0.0] * count,
        dict(zip(pairs, heights, strict=True)),
        dict(zip(chosen, values, strict=True)),
    )
    expected = persistence(found, 1)[1].bars
    assert [(bar.birth, bar.death) for bar in bars] == [(b.birth, b.death) for b in expected]


def test_two_passes_between_two_minima_are_a_loop():
    """The loop, which no simplicial complex on two vertices has, is born at the higher pass."""
    (bar,) = CellComplex(2, [(0, 1), (0, 1)], [1.0, 2.0], [frozenset({0, 1})], [5.0]).loop_bars()
    assert (bar.birth, bar.death, bar.edge, bar.disc) == (2.0, 5.0, 1, 0)


def test_a_pass_from_a_minimum_to_itself_is_a_loop():
    """A ring with one minimum has one pass, and a loop that opens at it."""
    (bar,) = CellComplex(1, [(0, 0)], [3.0]).loop_bars()
    assert (bar.birth, bar.death) == (3.0, math.inf)


def test_a_disc_round_two_hills_ends_with_the_lower_hill_inside_filled():
    """Of a loop round hill A and one round A and B, the younger dies at B and the elder at A."""
    edges, heights = [(0, 1), (0, 1), (0, 1)], [0.0, 1.0, 2.0]
    boundaries = [frozenset({0, 1}), frozenset({1, 2})]
    bars = CellComplex(2, edges, heights, boundaries, [9.0, 5.0]).loop_bars()
    assert [(bar.birth, bar.death) for bar in bars] == [(1.0, 9.0), (2.0, 5.0)]


def test_of_two_discs_on_one_loop_the_one_that_is_known_well_fills_it():
    """A disc whose value is higher than the other's, and lower than what the other may be, fills the loop."""
    boundaries = [frozenset({0, 1})] * 2
    cells = CellComplex(2, [(0, 1), (0, 1)], [1.0, 2.0], boundaries, [5.0, 5.1], [0.5, 0.01])
    (one,), unfilled = cells.fillings()
    assert (one.disc, one.death, unfilled) == (1, 5.1, [])
    assert one.open == pytest.approx(0.01)
    assert [bar.death for bar in cells.loop_bars()] == [5.1]


def test_the_bracket_of_a_loop_that_is_filled_at_once_counts():
    """A disc no higher than its boundary makes no bar, but may make one as long as its bracket."""
    cells = CellComplex(2, [(0, 1), (0, 1)], [1.0, 2.0], [frozenset({0, 1})], [1.5], [0.75])
    (one,), _ = cells.fillings()
    assert (one.death, one.open) == (2.0, 0.25) and cells.loop_bars() == ()


def test_short_loops_contain_a_basis():
    """On random graphs with parallel edges the loops span all of them, and each is closed."""
    draw = np.random.default_rng(0)
    for _ in range(20):
        count = int(draw.integers(1, 7))
        edges = [
            tuple(sorted(draw.integers(0, count, 2).tolist()))
            for _ in range(int(draw.integers(1, 12)))
        ]
        lengths = draw.random(len(edges)).tolist()
        loops = candidate_loops(count, edges, lengths, most=40)
        for loop in loops:
            ends = [edges[e] if forward else edges[e][::-1] for e, forward in loop.steps]
            assert all(a[1] == b[0] for a, b in itertools.pairwise([*ends, ends[0]]))
        boundaries = [loop.edges for loop in loops]
        cells = CellComplex(count, edges, [0.0] * len(edges), boundaries, [1.0] * len(loops))
        assert all(math.isfinite(bar.death) for bar in cells.loop_bars())


@pytest.mark.parametrize("most", [0, 3])
def test_a_loop_that_nothing_fills_never_dies(most):
    """Without discs every independent loop has an infinite bar."""
    edges = [(0, 1), (1, 2), (0, 2), (0, 2)]
    bars = CellComplex(3, edges, [1.0, 2.0, 3.0, 4.0]).loop_bars()
    assert [bar.birth for bar in bars] == [3.0, 4.0]
    assert len(candidate_loops(3, edges, [1.0] * 4, most=most)) >= 2
