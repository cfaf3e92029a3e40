"""Which passes merge which basins, at what height: the merge tree of the minima.

Drawn with the height upwards and every merge at its own height it is the disconnectivity graph of
the energy-landscape literature (Becker & Karplus 1997), without its binning of heights.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from topo_core.homology.minimum_graph import Heights, Minimum, Pair, check_passes, merges


@dataclass(frozen=True)
class Leaf:
    """A minimum and its loss."""

    minimum: Minimum
    loss: float


@dataclass(frozen=True)
class Join:
    """Two basins become one.

    Attributes:
        height: at which they do.
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
        roots: nodes that are in no other.
    """

    leaves: tuple[Leaf, ...]
    joins: tuple[Join, ...]
    roots: tuple[int, ...]

    def places(self) -> tuple[float, ...]:
        """A horizontal place for each node, for a drawing in which no lines cross.

        Leaves are at 0, 1, 2, ... and a join is half-way between its children.
        """
        count = len(self.leaves)
        place = [0.0] * (count + len(self.joins))
        waiting, taken = list(reversed(self.roots)), 0
        while waiting:  # not recursive: a tree of n minima may be n deep
            node = waiting.pop()
            if node < count:
                place[node] = float(taken)
                taken += 1
            else:
                waiting.extend(reversed(self.joins[node - count].children))
        for number, join in enumerate(self.joins, start=count):
            place[number] = sum(place[child] for child in join.children) / 2
        return tuple(place)


def merge_tree(losses: Sequence[float] | Mapping[Minimum, float], heights: Heights) -> MergeTree:
    """The merge tree of minima with known passes.

    Args:
        losses, heights: as for ``barcode``, whose elder bars end where the younger basin of a
            join is merged.

    Raises:
        ValueError: as for ``barcode``.
    """
    passes = check_passes(losses, heights)
    node = list(range(len(passes.ids)))  # of the basin whose lowest minimum has this rank
    joins: list[Join] = []
    inner: set[int] = set()
    for merge in merges(passes):
        children = node[merge.elder], node[merge.younger]
        inner.update(children)
        node[merge.elder] = len(node) + len(joins)
        joins.append(
            Join(merge.height, passes.pair(merge.index), children, passes.ids[merge.elder])
        )
    leaves = tuple(
        Leaf(minimum, float(loss)) for minimum, loss in zip(passes.ids, passes.births, strict=True)
    )
    roots = tuple(n for n in range(len(leaves) + len(joins)) if n not in inner)
    return MergeTree(leaves, tuple(joins), roots)
