"""Distances of merge trees against closed forms."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topo_core import barcode, bottleneck, merge_tree
from topo_core.homology.merge_tree_distance import (
    interleaving_bound,
    labelled_distance,
    merge_heights,
)


def tree_of(losses, heights):
    return merge_tree(losses, heights)


def random_landscape(seed, count):
    draw = np.random.default_rng(seed)
    losses = draw.uniform(0, 1, count)
    floors = np.maximum.outer(losses, losses)
    heights = {
        (i, j): float(floors[i, j] + draw.exponential(0.5)) for j in range(count) for i in range(j)
    }
    return losses.tolist(), heights


def test_merge_heights():
    """Of three minima whose lowest two merge first: the height of each merge, losses on the diagonal."""
    tree = tree_of([0.0, 1.0, 2.0], {(0, 1): 3.0, (1, 2): 5.0, (0, 2): 7.0})
    assert merge_heights(tree).tolist() == [[0, 3, 5], [3, 1, 5], [5, 5, 2]]


def test_trees_with_equal_barcodes_are_told_apart():
    """In one tree the highest minimum merges with the middle one, in the other with the lowest.

    Their barcodes are equal: a bottleneck distance of 0. With equal names heights 3 and 5 are exchanged,
    a distance of 2; matching minima whose losses differ by 1 is closer.
    """
    losses = [0.0, 1.0, 2.0]
    one, other = {(1, 2): 3.0, (0, 1): 5.0}, {(0, 2): 3.0, (0, 1): 5.0}
    assert bottleneck(barcode(losses, one), barcode(losses, other)) == 0
    first, second = tree_of(losses, one), tree_of(losses, other)
    assert labelled_distance(merge_heights(first), merge_heights(second)) == 2.0
    assert interleaving_bound(first, second) == 1.0


@pytest.mark.parametrize("count", [2, 5, 9])
def test_a_shift_of_the_loss_is_the_distance(count):
    """A loss that is higher by a constant everywhere is that far away; one raised saddle by its rise."""
    losses, heights = random_landscape(3, count)
    raised = {pair: height + 0.25 for pair, height in heights.items()}
    shifted = tree_of([loss + 0.25 for loss in losses], raised)
    tree = tree_of(losses, heights)
    assert interleaving_bound(tree, shifted) == pytest.approx(0.25)
    assert interleaving_bound(tree, tree) == 0
    last = max(tree.joins, key=lambda join: join.height)
    higher = {p: h + 0.1 if h >= last.height else h for p, h in heights.items()}
    assert labelled_distance(
        merge_heights(tree), merge_heights(tree_of(losses, higher))
    ) == pytest.approx(0.1)


def test_names_of_minima_do_not_matter():
    """The same landscape with its minima renumbered is at distance 0, also where swaps are searched."""
    for count in (5, 9):
        losses, heights = random_landscape(7, count)
        order = np.random.default_rng(1).permutation(count)
        place = {int(old): new for new, old in enumerate(order)}
        renamed = {tuple(sorted((place[i], place[j]))): h for (i, j), h in heights.items()}
        other = tree_of([losses[old] for old in order], renamed)
        assert interleaving_bound(tree_of(losses, heights), other) == 0


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 6))
def test_barcodes_are_never_farther_apart(seed, count):
    """Stability: the bottleneck distance is at most the interleaving distance, which is at most the bound."""
    (a, b), (c, d) = random_landscape(seed, count), random_landscape(seed + 1, count)
    least = bottleneck(barcode(a, b), barcode(c, d))
    assert least <= interleaving_bound(tree_of(a, b), tree_of(c, d)) + 1e-9


def test_forests_and_different_sizes():
    """Minima that are connected in one tree alone are infinitely far apart; other numbers are refused."""
    whole, parted = tree_of([0.0, 1.0], {(0, 1): 2.0}), tree_of([0.0, 1.0], {})
    assert interleaving_bound(whole, parted) == math.inf
    assert interleaving_bound(parted, parted) == 0
    with pytest.raises(ValueError, match="2 and 1 labels"):
        interleaving_bound(whole, tree_of([0.0], {}))
