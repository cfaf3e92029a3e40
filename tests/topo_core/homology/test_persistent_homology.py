"""Filtrations and their homology against GUDHI fed by hand and against closed forms."""

import itertools
import math

import gudhi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topo_core.homology.bottleneck_distance import bottleneck
from topo_core.homology.filtrations import all_simplices, filtration
from topo_core.homology.persistent_homology import persistence
from topo_core.homology.to_scores import to_score


@st.composite
def complexes(draw):
    """Losses, heights of all pairs, and own maxima of some triples and of the solids that they bound."""
    count = draw(st.integers(1, 6))
    level = st.integers(0, 6).map(float)
    losses = [draw(level) for _ in range(count)]
    heights = {
        (i, j): max(losses[i], losses[j]) + draw(level)
        for i, j in itertools.combinations(range(count), 2)
    }
    triples = {
        triple: draw(level)
        for triple in itertools.combinations(range(count), 3)
        if draw(st.integers(0, 3))
    }
    solids = {
        solid: draw(level)
        for solid in itertools.combinations(range(count), 4)
        if all(face in triples for face in itertools.combinations(solid, 3))
    }
    return losses, heights, triples, solids


def intervals(barcodes):
    return {i: sorted((bar.birth, bar.death) for bar in bars.bars) for i, bars in barcodes.items()}


@given(complexes())
def test_filtration_is_monotone(data):
    """A simplex enters not before its faces, and not before its own maximum."""
    complex_ = filtration(*data)
    for dimension in range(1, complex_.dimension + 1):
        faces = complex_.values[dimension - 1][complex_.faces(dimension)]
        assert (complex_.values[dimension][:, None] >= faces).all()
        own = data[dimension]
        for row, value in zip(
            complex_.simplices[dimension], complex_.values[dimension], strict=True
        ):
            assert value >= own[tuple(row.tolist())]


@given(complexes())
def test_boundary_of_a_boundary_is_zero(data):
    """∂_{j-1} ∘ ∂_j = 0 with signs, over the integers."""
    complex_ = filtration(*data)
    for dimension in range(2, complex_.dimension + 1):
        product = boundary(complex_, dimension - 1) @ boundary(complex_, dimension)
        assert not product.any()


def boundary(complex_, dimension):
    faces = complex_.faces(dimension)
    matrix = np.zeros((len(complex_.simplices[dimension - 1]), len(faces)), dtype=int)
    for column, rows in enumerate(faces):
        for omitted, row in enumerate(rows):
            matrix[row, column] = (-1) ** omitted
    return matrix


@settings(deadline=None)
@given(complexes())
def test_agrees_with_gudhi_fed_simplex_by_simplex(data):
    """The same bars as when every simplex is inserted on its own with its face maximum."""
    losses, heights, triples, solids = data
    tree, values = gudhi.SimplexTree(), {}
    for vertex, loss in enumerate(losses):
        values[vertex,] = loss
    for own in (heights, triples, solids):
        for simplex, value in own.items():
            faces = itertools.combinations(simplex, len(simplex) - 1)
            values[simplex] = max(value, *(values[face] for face in faces))
    for simplex, value in values.items():
        tree.insert(list(simplex), value)
    tree.compute_persistence(homology_coeff_field=2, persistence_dim_max=True)
    ours = persistence(filtration(*data), 2)
    for index in range(3):
        theirs = tree.persistence_intervals_in_dimension(index).tolist()
        longer = [bar for bar in intervals(ours)[index] if bar[0] < bar[1]]
        assert longer == sorted(map(tuple, theirs))


@settings(deadline=None)
@given(complexes())
def test_bars_of_no_length_are_counted(data):
    """GUDHI asked for all pairs has as many of no length as ``zero_length`` says, in every index."""
    complex_ = filtration(*data)
    tree = complex_.tree()
    tree.compute_persistence(homology_coeff_field=2, min_persistence=-1, persistence_dim_max=True)
    for index, bars in persistence(complex_, 2).items():
        all_pairs = tree.persistence_intervals_in_dimension(index)
        assert bars.zero_length == sum(birth == death for birth, death in all_pairs.tolist())
        assert all(bar.length > 0 for bar in bars.bars) or index == 0
        for bar in bars.bars:
            assert len(bar.born) == index + 1 and (bar.killed is None) == math.isinf(bar.death)


@settings(deadline=None)
@given(complexes())
def test_a_mapping_of_simplices_is_enough(data):
    """``persistence`` of {simplex: value} is that of the filtration with these values."""
    complex_ = filtration(*data)
    plain = {
        tuple(row): value
        for rows, own in zip(complex_.simplices, complex_.values, strict=True)
        for row, value in zip(rows.tolist(), own.tolist(), strict=True)
    }
    assert intervals(persistence(plain, 2)) == intervals(persistence(complex_, 2))


@settings(deadline=None)
@given(complexes(), st.randoms(use_true_random=False), st.integers(-8, 8), st.integers(-3, 3))
def test_relabelling_shift_and_scale(data, random, shift, power):
    """Bars of every index do not depend on names, and move with the loss."""
    losses, *higher = data
    new = list(range(len(losses)))
    random.shuffle(new)
    scale = 2.0**power  # exact

    def changed(value):
        return scale * value + shift

    moved = [0.0] * len(losses)
    for old, renamed in enumerate(new):
        moved[renamed] = changed(losses[old])
    # The own maximum of a higher simplex may be anything below that of its faces.
    renamed = [
        {tuple(new[v] for v in simplex): changed(value) for simplex, value in part.items()}
        for part in higher
    ]
    before = intervals(persistence(filtration(*data), 2))
    after = intervals(persistence(filtration(moved, *renamed), 2))
    assert after == {
        index: sorted((changed(b), changed(d)) for b, d in bars) for index, bars in before.items()
    }


@settings(deadline=None)
@given(complexes(), st.floats(0, 2), st.data())
def test_stability_of_every_index(data, epsilon, draw):
    """Values that move by at most epsilon move the bars of every index by at most epsilon."""
    complex_ = filtration(*data)
    moves = st.floats(-epsilon, epsilon)
    shifted = [
        {
            tuple(row): value + draw.draw(moves)
            for row, value in zip(rows.tolist(), values.tolist(), strict=True)
        }
        for rows, values in zip(complex_.simplices, complex_.values, strict=True)
    ]
    vertices, edges, *rest = [*shifted, {}][: max(2, len(shifted))]
    losses = [vertices[v,] for v in range(len(vertices))]
    edges = {(i, j): max(value, losses[i], losses[j]) for (i, j), value in edges.items()}
    before, after = persistence(complex_, 2), persistence(filtration(losses, edges, *rest), 2)
    for index in before:
        assert bottleneck(before[index], after[index]) <= epsilon + 1e-12


@given(complexes())
def test_two_fields_agree(data):
    """Z/2 and Z/3 give the same bars: with six vertices only RP² could have torsion."""
    losses, heights, triples, solids = data
    if len(losses) == 6:  # the projective plane needs six vertices
        losses = losses[:5]
        heights, triples, solids = (
            {simplex: value for simplex, value in part.items() if 5 not in simplex}
            for part in (heights, triples, solids)
        )
    complex_ = filtration(losses, heights, triples, solids)
    assert intervals(persistence(complex_, 2)) == intervals(persistence(complex_, 2, field=3))


def test_torsion_is_seen_by_one_field_only():
    """The projective plane on six vertices has a loop over Z/2 that Z/3 does not know."""
    faces = [
        (0, 1, 4), (0, 1, 5), (0, 2, 3), (0, 2, 5), (0, 3, 4),
        (1, 2, 3), (1, 2, 4), (1, 3, 5), (2, 4, 5), (3, 4, 5),
    ]  # fmt: skip
    edges = dict.fromkeys(itertools.combinations(range(6), 2), 1.0)
    complex_ = filtration([0.0] * 6, edges, dict.fromkeys(faces, 2.0))
    assert intervals(persistence(complex_, 1))[1] == [(1.0, 2.0)] * 9 + [(1.0, math.inf)]
    assert intervals(persistence(complex_, 1, field=3))[1] == [(1.0, 2.0)] * 10


def test_a_square_and_its_diagonals():
    """Four edges close a loop; the triangle that enters last at which it is filled ends it."""
    heights = {(0, 1): 1.0, (1, 2): 1.0, (2, 3): 1.0, (0, 3): 1.0, (0, 2): 2.0, (1, 3): 2.0}
    triples = {(0, 1, 2): 5.0, (0, 2, 3): 3.0, (0, 1, 3): 4.0, (1, 2, 3): 4.0}
    loops = persistence(filtration([0.0] * 4, heights, triples), 1)[1]
    assert [(bar.birth, bar.death) for bar in loops.bars] == [(1.0, 4.0), (2.0, 3.0), (2.0, 4.0)]
    assert loops.bars[0].born in {(0, 1), (1, 2), (2, 3), (0, 3)}
    assert loops.bars[0].killed in {(0, 1, 3), (1, 2, 3)}
    assert to_score(loops) == 1.5


def test_the_highest_dimension_gives_no_bars():
    """Triangles only end loops; the cavity that four of them close is asked for with index 2."""
    edges = dict.fromkeys(itertools.combinations(range(4), 2), 1.0)
    hollow = filtration([0.0] * 4, edges, dict.fromkeys(itertools.combinations(range(4), 3), 2.0))
    assert set(persistence(hollow, 1)) == {0, 1}
    cavity = persistence(hollow, 2)[2]
    assert [(bar.birth, bar.death) for bar in cavity.bars] == [(2.0, math.inf)]
    assert to_score(cavity) == math.inf
    assert not cavity.complete


def test_arrays_and_mappings_are_the_same():
    """Triangles may come as arrays, in any order and orientation."""
    losses = [0.0, 0.5, 0.25, 0.125]
    heights = np.full((4, 4), 1.0)
    rows = all_simplices(4, 2)
    own = np.array([2.0, 3.0, 4.0, 5.0])
    arrays = filtration(losses, heights, (rows[::-1, ::-1], own[::-1]))
    mapping = filtration(losses, heights, dict(zip(map(tuple, rows.tolist()), own, strict=True)))
    assert intervals(persistence(arrays, 1)) == intervals(persistence(mapping, 1))
    assert arrays.values[2].tolist() == own.tolist()


@pytest.mark.parametrize(
    ("triples", "words"),
    [
        ({(0, 1, 2): 1.0}, "face (1, 2)"),
        ({(0, 1, 1): 1.0}, "3 different vertices"),
        ({(0, 1, 7): 1.0}, "from 0 to 3"),
        ({(0, 1, 3): math.nan}, "(0, 1, 3) is nan"),
        ({(0, 1, 3): 1.0, (1, 0, 3): 2.0}, "given twice"),
        ({(0, 1): 1.0}, "3 vertices"),
    ],
)
def test_impossible_simplices_are_refused(triples, words):
    """The message names the simplex and the error."""
    heights = {(0, 1): 1.0, (0, 2): 1.0, (0, 3): 1.0, (1, 3): 1.0}
    with pytest.raises(ValueError) as refused:
        filtration([0.0] * 4, heights, triples)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("plain", "words"),
    [
        ([((0,), 0.0)], "mapping from simplices"),
        ({0: 0.0}, "not a simplex"),
        ({(0,): 0.0, (2,): 1.0}, "0 to n - 1"),
        ({(0,): 0.0, (1,): 1.0, (0, 1): 0.5}, "not below"),
    ],
)
def test_input_that_is_not_a_filtration_is_refused(plain, words):
    """The message says which input is allowed."""
    with pytest.raises(ValueError) as refused:
        persistence(plain, 1)
    assert words in str(refused.value)


def test_losses_may_come_by_number():
    """A mapping is read by its keys and not by its order."""
    by_number = filtration({1: 0.5, 0: 0.25}, {(0, 1): 1.0})
    assert by_number.values[0].tolist() == [0.25, 0.5]
    with pytest.raises(ValueError, match="0 to n - 1"):
        filtration({"a": 0.0, "b": 1.0}, {("a", "b"): 2.0})


def test_a_field_must_be_a_prime():
    """Z/4 is no field."""
    with pytest.raises(ValueError, match="field is 4"):
        persistence(filtration([0.0], {}), 0, field=4)
