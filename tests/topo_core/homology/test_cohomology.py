"""Our reduction over Z/2 against GUDHI's, where simplices come in many blocks and with ties."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topo_core.homology import cohomology
from topo_core.homology.cohomology import pairings
from topo_core.homology.filtrations import Filtration, all_simplices, filtration
from topo_core.homology.persistent_homology import persistence


def complex_of(count, top, *, seed, levels, kept=1.0, high=False):
    """A random complex: values on a few ``levels``, and only a part of the higher simplices."""
    draw = np.random.default_rng(seed)

    def some(number):
        return draw.integers(0, levels, number).astype(float)

    losses = some(count)
    pairs = [
        (i, j) for i, j in itertools.combinations(range(count), 2) if draw.random() < max(kept, 0.6)
    ]
    heights = {(i, j): max(losses[i], losses[j]) + some(1)[0] for i, j in pairs}
    below, parts = set(pairs), []
    for dimension in range(2, top + 1):
        rows = [
            simplex
            for simplex in itertools.combinations(range(count), dimension + 1)
            if draw.random() < kept
            and all(face in below for face in itertools.combinations(simplex, dimension))
        ]
        above = 10.0 * dimension * levels if high else 0.0
        parts.append(dict(zip(rows, (above + some(len(rows))).tolist(), strict=True)))
        below = set(rows)
    return filtration(losses.tolist(), heights, *parts)


def by_gudhi(complex_, max_index):
    tree = complex_.tree(max_index + 1)
    tree.compute_persistence(homology_coeff_field=2, persistence_dim_max=True)
    return {
        index: sorted(map(tuple, tree.persistence_intervals_in_dimension(index).tolist()))
        for index in range(max_index + 1)
    }


def ours(complex_, max_index):
    found = persistence(complex_, max_index)
    return {i: sorted((bar.birth, bar.death) for bar in bars.bars) for i, bars in found.items()}


@settings(deadline=None)
@given(
    count=st.integers(1, 9),
    top=st.integers(1, 4),
    seed=st.integers(0, 2**32),
    levels=st.sampled_from([1, 3, 1000]),
    kept=st.sampled_from([1.0, 0.9, 0.5]),
    high=st.booleans(),
    block=st.integers(1, 40),
)
def test_bars_are_those_of_gudhi(count, top, seed, levels, kept, high, block):
    """Equal bit for bit for every index to 3, whatever the ties, gaps and blocks."""
    complex_ = complex_of(count, top, seed=seed, levels=levels, kept=kept, high=high)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cohomology, "_BLOCK", block)
        for max_index in range(top):
            assert ours(complex_, max_index) == by_gudhi(complex_, max_index)
        open_top = ours(complex_, top)[top]
    assert open_top == by_gudhi(complex_, top)[top]


@pytest.mark.parametrize("rise", [0.1, 1.0, math.inf])
def test_many_words_of_bits(rise):
    """With 435 edges the bits fill words, die and are moved together, at every height above."""
    draw = np.random.default_rng(0)
    count = 30
    upper = np.triu(1 + draw.random((count, count)), 1)
    triples = all_simplices(count, 2)
    own = draw.random(len(triples)) * min(rise, 1.0)
    faces = np.sort((upper + upper.T)[triples[:, [0, 0, 1]], triples[:, [1, 2, 2]]], axis=1)[:, -1]
    own += faces if math.isfinite(rise) else 3.0
    complex_ = filtration(draw.random(count).tolist(), upper + upper.T, (triples, own))
    assert ours(complex_, 1) == by_gudhi(complex_, 1)
    assert len(ours(complex_, 1)[1]) == 435 - 29


@settings(deadline=None)
@given(seed=st.integers(0, 2**32), kept=st.sampled_from([1.0, 0.7]))
def test_each_simplex_is_a_birth_or_a_death(seed, kept):
    """No simplex is in two pairs, and below the top none is in no pair: the canonical form."""
    complex_ = complex_of(7, 3, seed=seed, levels=4, kept=kept)
    found = pairings(complex_, 2)
    for index, pairing in enumerate(found):
        below = found[index - 1].killed if index else np.empty(0, dtype=int)
        named = sorted([*pairing.born.tolist(), *below[below >= 0].tolist()])
        assert named == list(range(len(complex_.simplices[index])))
        ended = pairing.killed[pairing.killed >= 0]
        assert len(set(ended.tolist())) == len(ended)


def test_nothing_is_looked_at_after_the_last_loop(monkeypatch):
    """Where a cone fills all loops, the other triangles are left alone."""
    count, looked_at = 50, 0
    plain = Filtration.faces

    def counted(self, dimension, rows=None):
        nonlocal looked_at
        if dimension == 2 and rows is not None:
            looked_at += len(rows)
        return plain(self, dimension, rows)

    monkeypatch.setattr(Filtration, "faces", counted)
    monkeypatch.setattr(cohomology, "_BLOCK", 64)
    triples = all_simplices(count, 2)
    cone = triples[:, 0] == 0
    complex_ = filtration([0.0] * count, np.ones((count, count)), (triples, np.where(cone, 2, 3)))
    bars = ours(complex_, 1)[1]
    assert bars == [(1.0, 2.0)] * int(cone.sum())
    assert looked_at < int(cone.sum()) + 64
