"""Barcodes of minima against hand-made cases, a plain loop, and GUDHI."""

import itertools
import math

import gudhi
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from topo_core.homology.barcodes import barcode
from topo_core.homology.bottleneck_distance import bottleneck
from topo_core.homology.filtrations import filtration
from topo_core.homology.merge_trees import merge_tree
from topo_core.homology.minimum_graphs import checked_graph, merges
from topo_core.homology.persistent_homology import persistence
from topo_core.homology.to_scores import to_score

# Few distinct values, so that ties occur, as well as arbitrary ones.
LOSSES = st.one_of(st.integers(0, 3).map(float), st.floats(0, 10))
RISES = st.one_of(st.integers(0, 3).map(float), st.floats(0, 10))


@st.composite
def landscapes(draw, least=1, most=9, complete=False):
    """Losses of some minima, and heights of some of their pairs."""
    losses = draw(st.lists(LOSSES, min_size=least, max_size=most))
    heights = {}
    for i, j in itertools.combinations(range(len(losses)), 2):
        if complete or draw(st.booleans()):
            heights[i, j] = max(losses[i], losses[j]) + draw(RISES)
    return losses, heights


def values(bars):
    return sorted((bar.birth, bar.death) for bar in bars.bars)


def algorithm_1(losses, heights):
    """The loop of the paper, with ties broken by position."""
    bars = []
    for p in sorted(range(len(losses)), key=lambda p: (losses[p], p)):
        h = math.inf
        for q in range(len(losses)):
            if (losses[q], q) < (losses[p], p):
                h = min(h, heights.get((p, q), math.inf), heights.get((q, p), math.inf))
        bars.append((losses[p], h))
    return sorted(bars)


def formula_1(losses, heights):
    """Eq. (1) over all paths through other minima: minimax by Floyd and Warshall."""
    n = len(losses)
    reach = np.full((n, n), math.inf)
    for (i, j), height in heights.items():
        reach[i, j] = reach[j, i] = height
    for k in range(n):
        reach = np.minimum(reach, np.maximum(reach[:, k, None], reach[None, k]))
    keys = [(loss, position) for position, loss in enumerate(losses)]
    return sorted(
        (losses[p], min((reach[p, q] for q in range(n) if keys[q] < keys[p]), default=math.inf))
        for p in range(n)
    )


def test_three_minima():
    """The middle minimum leaves over the low pass; the direct rule has to take the high one."""
    heights = {(0, 1): 5.0, (0, 2): 2.0, (1, 2): 3.0}
    elder = barcode([0.0, 1.0, 1.5], heights)
    assert values(elder) == [(0.0, math.inf), (1.0, 3.0), (1.5, 2.0)]
    assert [bar.saddle for bar in elder.bars] == [None, (1, 2), (0, 2)]
    direct = barcode([0.0, 1.0, 1.5], heights, method="direct")
    assert values(direct) == [(0.0, math.inf), (1.0, 5.0), (1.5, 2.0)]


def test_equal_losses_leave_one_infinite_bar():
    """Ties are broken by the id, so equal minima do not all wait for a lower one."""
    for method in ("elder", "direct"):
        bars = barcode([1.0, 1.0, 1.0], {(0, 1): 2.0, (0, 2): 3.0, (1, 2): 4.0}, method)
        assert [bar.minimum for bar in bars.infinite] == [0]
        assert values(bars) == [(1.0, 2.0), (1.0, 3.0), (1.0, math.inf)]


def test_ids_need_not_be_positions():
    """Minima are known by their ids, and a saddle names its pair as it was given."""
    bars = barcode({"b": 2.0, "a": 1.0}, {("b", "a"): 3.0})
    assert [(bar.minimum, bar.saddle) for bar in bars.bars] == [("a", None), ("b", ("b", "a"))]


def test_unfinished_run_has_several_infinite_bars():
    """Without its passes a minimum never dies, the score is infinite, and the barcode says so."""
    bars = barcode([0.0, 1.0, 2.0], {(0, 1): 3.0})
    assert [bar.minimum for bar in bars.infinite] == [0, 2]
    assert not bars.complete
    assert to_score(bars) == math.inf


@given(landscapes())
def test_elder_is_formula_1(landscape):
    """The elder rule is the minimax over all paths through minima."""
    losses, heights = landscape
    assert values(barcode(losses, heights)) == formula_1(losses, heights)


@given(landscapes())
def test_direct_is_algorithm_1(landscape):
    """The direct rule is the loop of the paper."""
    losses, heights = landscape
    assert values(barcode(losses, heights, "direct")) == algorithm_1(losses, heights)


@given(landscapes(complete=True))
def test_direct_is_at_least_elder(landscape):
    """Bar by bar, for each minimum."""
    losses, heights = landscape
    elder = {bar.minimum: bar.death for bar in barcode(losses, heights).bars}
    for bar in barcode(losses, heights, "direct").bars:
        assert bar.death >= elder[bar.minimum]


@given(landscapes())
def test_agrees_with_gudhi_bit_for_bit(landscape):
    """GUDHI's persistence of the same graph has the same births and deaths, to the last bit."""
    losses, heights = landscape
    tree = gudhi.SimplexTree()
    for vertex, loss in enumerate(losses):
        tree.insert([vertex], loss)
    for pair, height in heights.items():
        tree.insert(list(pair), height)
    tree.compute_persistence(min_persistence=-1.0, persistence_dim_max=True)
    theirs = tree.persistence_intervals_in_dimension(0)
    assert values(barcode(losses, heights)) == sorted(map(tuple, theirs.tolist()))


@given(landscapes(complete=True), st.randoms(use_true_random=False))
def test_relabelling(landscape, random):
    """The numbers of the bars do not depend on how minima are numbered."""
    losses, heights = landscape
    new = list(range(len(losses)))
    random.shuffle(new)
    relabelled = [0.0] * len(losses)
    for old, renamed in enumerate(new):
        relabelled[renamed] = losses[old]
    moved = {(new[j], new[i]): height for (i, j), height in heights.items()}
    assert values(barcode(relabelled, moved)) == values(barcode(losses, heights))


@given(landscapes(), st.integers(-8, 8), st.integers(-3, 3))
def test_shift_and_scale(landscape, shift, power):
    """An affine change of the loss changes the bars in the same way."""
    losses, heights = landscape
    scale = 2.0**power  # exact, as the comparison is

    def changed(value):
        return scale * value + shift

    bars = barcode(
        [changed(loss) for loss in losses],
        {pair: changed(height) for pair, height in heights.items()},
    )
    expected = sorted((changed(b), changed(d)) for b, d in values(barcode(losses, heights)))
    assert np.array(values(bars)) == pytest.approx(np.array(expected), abs=1e-12)


@given(landscapes(least=2), st.data())
def test_another_pass_never_raises_a_bar(landscape, data):
    """One more pass can only give more ways out."""
    losses, heights = landscape
    i, j = data.draw(st.sampled_from(list(itertools.combinations(range(len(losses)), 2))))
    more = dict(heights)
    more[i, j] = min(heights.get((i, j), math.inf), max(losses[i], losses[j]) + data.draw(RISES))
    for method in ("elder", "direct"):
        before = {bar.minimum: bar.death for bar in barcode(losses, heights, method).bars}
        for bar in barcode(losses, more, method).bars:
            assert bar.death <= before[bar.minimum]


@given(landscapes(complete=True), st.floats(0, 2), st.data())
def test_stability(landscape, epsilon, data):
    """Heights and losses that move by at most epsilon move the barcode by at most epsilon."""
    losses, heights = landscape
    moves = st.floats(-epsilon, epsilon)
    moved = [loss + data.draw(moves) for loss in losses]
    changed = {
        (i, j): max(height + data.draw(moves), moved[i], moved[j])
        for (i, j), height in heights.items()
    }
    before, after = barcode(losses, heights), barcode(moved, changed)
    assert bottleneck(before, after) <= epsilon + 1e-12
    assert abs(to_score(before) - to_score(after)) <= epsilon + 1e-12


@given(landscapes(complete=True))
def test_to_score_is_a_bottleneck_distance(landscape):
    """GUDHI's distance to the barcode with one infinite bar at the same loss."""
    losses, heights = landscape
    bars = barcode(losses, heights)
    ideal = np.array([[min(losses), math.inf]])
    theirs = gudhi.bottleneck_distance(np.array(values(bars)), ideal, e=0)
    assert to_score(bars) == pytest.approx(theirs, abs=1e-14)


@given(landscapes(most=24), st.data())
def test_merges_are_those_of_kruskals_algorithm(landscape, data):
    """The spanning forest of SciPy merges the same components at the same passes, with ties."""
    losses, heights = landscape
    graph = checked_graph(losses, heights)
    without = data.draw(st.none() | st.integers(0, len(losses) - 1))
    merged = [(m.height, m.elder, m.younger, m.index) for m in merges(graph, without=without)]
    assert merged == kruskal(graph, without)


def kruskal(graph, without):
    """Kruskal's algorithm over all passes, with components as sets."""
    parts = [{rank} for rank in range(len(graph.ids))]
    order = sorted(
        range(len(graph.heights)), key=lambda e: (graph.heights[e], graph.high[e], graph.low[e])
    )
    merged = []
    for edge in order:
        if without in (graph.high[edge], graph.low[edge]):
            continue
        first, second = (
            next(part for part in parts if end in part)
            for end in (graph.high[edge], graph.low[edge])
        )
        if first is not second:
            elder, younger = sorted((min(first), min(second)))
            merged.append((graph.heights[edge], elder, younger, edge))
            parts.remove(second)
            first |= second
    return merged


def test_a_pair_that_is_given_in_both_directions():
    """Of two passes of one pair the lower one counts, in whatever order they are given."""
    for heights in ({(0, 1): 3.0, (1, 0): 2.0}, {(1, 0): 2.0, (0, 1): 3.0}):
        bars = barcode([0.0, 1.0], heights)
        assert [(bar.death, bar.saddle) for bar in bars.finite] == [(2.0, (1, 0))]


def test_a_matrix_and_a_mapping_are_the_same():
    """Heights may come as a symmetric array, with infinity for missing passes."""
    losses = [0.3, 0.1, 0.2, 0.4]
    heights = {(0, 1): 1.0, (1, 2): 0.5, (2, 3): 0.9, (0, 3): 0.8}
    matrix = np.full((4, 4), math.inf)
    for (i, j), height in heights.items():
        matrix[i, j] = matrix[j, i] = height
    assert barcode(losses, matrix) == barcode(losses, heights)
    assert barcode(losses, matrix, "direct") == barcode(losses, heights, "direct")


@given(landscapes(), st.randoms(use_true_random=False))
def test_the_order_of_input_does_not_matter(landscape, random):
    """Also the saddles are the same, where passes are equally high."""
    losses, heights = landscape
    items = list(heights.items())
    random.shuffle(items)
    assert barcode(losses, dict(items)) == barcode(losses, heights)


@pytest.mark.parametrize(
    ("heights", "words"),
    [
        ({(0, 1): 0.5}, "(0, 1) is 0.5"),
        ({(0, 1): math.nan}, "(0, 1) is nan"),
        ({(0, 5): 2.0}, "minimum 5"),
        ({(1, 1): 2.0}, "to itself"),
        (np.ones((3, 3)), "shape (3, 3) for 2 minima"),
        (np.array([[0.0, 2.0], [3.0, 0.0]]), "must be symmetric"),
        ({(0, 1, 2): 2.0}, "not a pair of ids"),
        ({0: 2.0}, "not a pair of ids"),
        ({(0, 1): "high"}, "heights must be numbers"),
        ([[0.0], [1.0, 2.0]], "heights must be numbers"),
    ],
)
def test_impossible_heights_are_refused(heights, words):
    """The message names the pass and the error."""
    with pytest.raises(ValueError) as refused:
        barcode([0.0, 1.0], heights)
    assert words in str(refused.value)


def test_a_loss_that_is_not_finite_is_refused():
    """A diverged minimum has to be left out."""
    with pytest.raises(ValueError, match="inf for the minimum 1"):
        barcode([0.0, math.inf], {})


@pytest.mark.parametrize(
    ("losses", "words"),
    [
        (["low", "high"], "losses must be numbers"),
        ([1.0, None], "nan for the minimum 1"),
        (np.ones((2, 2)), "shape (2, 2)"),
        (1.0, "shape ()"),
        ({"a": 1.0, 3: 1.0}, "ids of one kind"),
    ],
)
def test_impossible_losses_are_refused(losses, words):
    """The message says which input is allowed."""
    with pytest.raises(ValueError) as refused:
        barcode(losses, {})
    assert words in str(refused.value)


@given(landscapes(complete=True))
def test_lists_arrays_and_tensors_are_the_same(landscape):
    """Barcode, merge tree and jackknife of plain numbers do not depend on the container."""
    losses, heights = landscape
    matrix = np.zeros((len(losses), len(losses)))
    for (i, j), height in heights.items():
        matrix[i, j] = matrix[j, i] = height
    given_as = [
        (losses, heights),
        (tuple(losses), matrix.tolist()),
        (np.array(losses), matrix),
        (torch.tensor(losses, dtype=torch.float64), torch.tensor(matrix)),
    ]
    assert len({repr(barcode(*plain)) for plain in given_as}) == 1
    assert len({repr(merge_tree(*plain)) for plain in given_as}) == 1


@given(landscapes(complete=True), landscapes(complete=True))
def test_distances_and_scores_of_plain_rows(one, other):
    """Rows of births and deaths have the distance and the score of the barcodes they came from."""
    first, second = barcode(*one), barcode(*other)
    assert bottleneck(np.array(values(first)), values(second)) == bottleneck(first, second)
    assert to_score(values(first)) == to_score(first)
    finite = [(bar.birth, bar.death) for bar in first.finite]
    assert to_score(np.array(finite).reshape(-1, 2), index=1) == to_score(first)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([0.0, 1.0], "shape (2,)"),
        ([(0.0, 1.0, 2.0)], "shape (1, 3)"),
        ([(2.0, 1.0)], "from 2.0 to 1.0"),
        ([(math.nan, 1.0)], "from nan to 1.0"),
        ([("a", "b")], "must be numbers"),
    ],
)
def test_rows_that_are_no_bars_are_refused(rows, words):
    """A bar begins at a finite loss and ends no lower."""
    for measure in (to_score, lambda plain: bottleneck(plain, [])):
        with pytest.raises(ValueError) as refused:
            measure(rows)
        assert words in str(refused.value)


@given(landscapes())
def test_index_0_of_the_complex_is_the_elder_barcode(landscape):
    """``persistence`` has the bars of ``barcode``, one for each minimum, those of no length too."""
    losses, heights = landscape
    of_minima, of_complex = barcode(losses, heights), persistence(filtration(losses, heights), 0)[0]
    assert values(of_complex) == values(of_minima)
    assert of_complex.zero_length == of_minima.zero_length
    assert of_minima.zero_length == sum(birth == death for birth, death in values(of_minima))
