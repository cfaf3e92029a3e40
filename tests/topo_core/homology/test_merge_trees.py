"""The merge tree agrees with the elder barcode."""

import math

from hypothesis import given

from tests.topo_core.homology.test_barcodes import landscapes
from topo_core.homology.barcodes import barcode
from topo_core.homology.merge_trees import Join, merge_tree


def test_three_minima():
    """The two upper basins join first, and their basin then joins the lowest minimum."""
    tree = merge_tree({"a": 0.0, "b": 1.0, "c": 2.0}, {("a", "b"): 5.0, ("b", "c"): 3.0})
    assert [leaf.minimum for leaf in tree.leaves] == ["a", "b", "c"]
    assert tree.joins == (
        Join(3.0, ("b", "c"), (1, 2), "b"),
        Join(5.0, ("a", "b"), (0, 3), "a"),
    )
    assert tree.roots == (4,)


@given(landscapes())
def test_bars_are_read_off_the_tree(landscape):
    """A bar ends at the join where the basin of its minimum is the second child."""
    losses, heights = landscape
    tree = merge_tree(losses, heights)
    count = len(tree.leaves)
    lowest = [leaf.minimum for leaf in tree.leaves] + [join.lowest for join in tree.joins]
    deaths = {lowest[join.children[1]]: (join.height, join.saddle) for join in tree.joins}
    for bar in barcode(losses, heights).bars:
        assert deaths.get(bar.minimum, (math.inf, None)) == (bar.death, bar.saddle)
    assert len(tree.roots) == count - len(tree.joins)


@given(landscapes(most=14))
def test_lines_of_a_drawing_do_not_cross(landscape):
    """The minima of a basin are drawn side by side, and below its join."""
    tree = merge_tree(*landscape)
    positions = tree.horizontal_positions()
    count = len(tree.leaves)
    members = [{leaf} for leaf in range(count)]
    for join in tree.joins:
        members.append(members[join.children[0]] | members[join.children[1]])
    for node, leaves in enumerate(members):
        spots = sorted(positions[leaf] for leaf in leaves)
        assert spots == [spots[0] + step for step in range(len(spots))]
        assert spots[0] <= positions[node] <= spots[-1]
