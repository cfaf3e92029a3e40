"""The merge tree of the minima: which passes merge which basins, and at what height.

With the height as vertical axis it is the disconnectivity graph of the energy-landscape
literature (Becker & Karplus 1997), without its binning of heights.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from topo_core.homology.minimum_graphs import Minimum, Pair, PassHeights, checked_graph, merges


@dataclass(frozen=True)
class Leaf:
    """A minimum and its loss."""

    minimum: Minimum
    loss: float


@dataclass(frozen=True)
class Join:
    """Two basins become one.

    Attributes:
        height: at which they become one.
        saddle: the pair of minima whose path is the pass.
        children: the two nodes, the one with the lower minimum first.
        lowest: the lowest minimum of the joined basin.
    """

    height: float
    saddle: Pair
    children: tuple[int, int]
    lowest: Minimum


@dataclass(frozen=True)
class MergeTree:
    """A binary forest; one tree when all minima are connected.

    Attributes:
        leaves: nodes 0 to n - 1, in the order of their losses.
        joins: nodes n, n + 1, ... in the order of their heights.
        roots: nodes that are nobody's child.
    """

    leaves: tuple[Leaf, ...]
    joins: tuple[Join, ...]
    roots: tuple[int, ...]

    def horizontal_positions(self) -> tuple[float, ...]:
        """A horizontal position for each node, for a drawing in which no lines cross.

        Leaves are at 0, 1, 2, ... and a join is half-way between its children.
        """
        count = len(self.leaves)
        positions = [0.0] * (count + len(self.joins))
        waiting, next_leaf = list(reversed(self.roots)), 0
        while waiting:  # not recursive: a tree of n minima may be n deep
            node = waiting.pop()
            if node < count:
                positions[node] = float(next_leaf)
                next_leaf += 1
            else:
                waiting.extend(reversed(self.joins[node - count].children))
        for node, join in enumerate(self.joins, start=count):
            positions[node] = sum(positions[child] for child in join.children) / 2
        return tuple(positions)


def merge_tree(
    losses: Sequence[float] | Mapping[Minimum, float], heights: PassHeights
) -> MergeTree:
    """The merge tree of minima with known passes.

    Args:
        losses, heights: as for ``barcode``, whose elder bars end where the younger basin of a
            join is merged.

    Raises:
        ValueError: as for ``barcode``.
    """
    graph = checked_graph(losses, heights)
    node = list(range(len(graph.ids)))  # of the basin whose lowest minimum has this rank
    joins: list[Join] = []
    children_of_joins: set[int] = set()
    for merge in merges(graph):
        children = node[merge.elder], node[merge.younger]
        children_of_joins.update(children)
        node[merge.elder] = len(node) + len(joins)
        joins.append(Join(merge.height, graph.pair(merge.index), children, graph.ids[merge.elder]))
    leaves = tuple(
        Leaf(minimum, float(loss)) for minimum, loss in zip(graph.ids, graph.births, strict=True)
    )
    roots = tuple(n for n in range(len(leaves) + len(joins)) if n not in children_of_joins)
    return MergeTree(leaves, tuple(joins), roots)
