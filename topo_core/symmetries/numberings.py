"""Bookkeeping of the units of a network while its layers are followed: which are numbered together, with
which weights.

A *numbering* is a label of the units of a value; values that are added share one. Units of a grouped
convolution, or of attention heads, may only be renumbered in blocks: whole blocks with each other, and the
units inside a block. Blocks of several numberings can be tied, as those of the inputs and outputs of a
grouped convolution are.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor

from topo_core.symmetries.units import Axis, Gauge, Group, Rotation

if TYPE_CHECKING:
    from scipy.cluster.hierarchy import DisjointSet

FIXED = 0  # numbering and gauge of inputs and outputs


def _disjoint_set(elements: Iterable[int] = (FIXED,)) -> "DisjointSet":
    from scipy.cluster.hierarchy import DisjointSet  # takes 0.2 s to import

    return DisjointSet(elements)


@dataclass(frozen=True)
class Value:
    """The numbering of the units of a tensor in the graph, and their gauge."""

    numbering: int
    gauge: int


@dataclass(frozen=True)
class _Entry:
    """Weights [n, m] of the units of a numbering, with the gauges that multiply (+1) or divide (-1) them.

    With blocks, ``in_blocks`` says whether a renumbering of whole blocks moves them: of a grouped
    convolution, the entry of the outputs moves the weights already.
    """

    numbering: int
    rows: Tensor
    gauges: tuple[tuple[int, int], ...]
    in_blocks: bool = True


@dataclass
class Numberings:
    """All numberings and gauges of a network."""

    sizes: list[int] = field(default_factory=lambda: [0])
    _numberings: "DisjointSet" = field(default_factory=_disjoint_set)
    _gauges: "DisjointSet" = field(default_factory=_disjoint_set)
    _entries: list[_Entry] = field(default_factory=list)
    _blocks: list[tuple[int, int]] = field(default_factory=list)
    _ties: list[tuple[int, int]] = field(default_factory=list)
    _rotations: list[tuple[int, list[list[Rotation]]]] = field(default_factory=list)
    not_odd: set[int] = field(default_factory=set)
    not_homogeneous: set[int] = field(default_factory=set)
    not_linear: set[int] = field(default_factory=set)

    def new(self, size: int) -> Value:
        """A numbering of ``size`` units, with a gauge."""
        self.sizes.append(size)
        self._numberings.add(len(self.sizes) - 1)
        return Value(len(self.sizes) - 1, self.new_gauge())

    def new_gauge(self) -> int:
        """A gauge."""
        gauge = len(self._gauges)
        self._gauges.add(gauge)
        return gauge

    def root(self, numbering: int) -> int:
        """The smallest label of the same numbering, so that groups stay in the order of the layers."""
        return int(min(self._numberings.subset(numbering)))

    def gauge_root(self, gauge: int) -> int:
        """The smallest label of the same gauge."""
        return int(min(self._gauges.subset(gauge)))

    def join(self, one: Value, other: Value) -> Value:
        """Number the units of two values together, and give them one gauge."""
        first, second = self.root(one.numbering), self.root(other.numbering)
        if self.sizes[first] != self.sizes[second]:
            self._numberings.merge(FIXED, first)
            self._numberings.merge(FIXED, second)
        self._numberings.merge(first, second)
        self._gauges.merge(one.gauge, other.gauge)
        return one

    def fix(self, value: Value) -> None:
        """Allow no renumbering, no signs and no scales."""
        self._numberings.merge(FIXED, value.numbering)
        self.keep_no_gauge(value.gauge)

    def keep_no_gauge(self, gauge: int) -> None:
        """Allow neither signs nor scales."""
        for forbidden in (self.not_odd, self.not_homogeneous, self.not_linear):
            forbidden.add(gauge)

    def add(
        self,
        numbering: int,
        rows: Tensor,
        gauges: Sequence[tuple[int, int]] = (),
        *,
        in_blocks: bool = True,
    ) -> None:
        """Weights ``rows`` [n, m] of the units of a numbering."""
        self._entries.append(_Entry(numbering, rows, tuple(gauges), in_blocks))

    def restrict(self, numbering: int, blocks: int) -> None:
        """Allow renumberings only of ``blocks`` blocks, and inside each."""
        self._blocks.append((numbering, blocks))

    def tie(self, one: int, other: int) -> None:
        """Renumber the blocks of two numberings together."""
        self._ties.append((one, other))

    def rotate(self, numbering: int, rotations: list[list[Rotation]]) -> None:
        """Rotations inside each block of a numbering."""
        self._rotations.append((numbering, rotations))

    def incoming(self) -> list[tuple[int, Tensor]]:
        """For each parameter that leads to units: their gauge and the weights [n, m] of each."""
        return [
            (gauge, entry.rows)
            for entry in self._entries
            for gauge, sign in entry.gauges
            if sign > 0
        ]

    def incoming_of_numberings(self) -> list[tuple[int, Tensor]]:
        """The same, with the numbering instead of the gauge."""
        return [
            (entry.numbering, entry.rows)
            for entry in self._entries
            if any(sign > 0 for _, sign in entry.gauges)
        ]

    def gauges(self) -> dict[int, Gauge]:
        """The gauges that allow signs or scales, by label."""
        odd = {self.gauge_root(one) for one in self.not_odd}
        homogeneous = {self.gauge_root(one) for one in self.not_homogeneous}
        nonlinear = {self.gauge_root(one) for one in self.not_linear}
        sides: dict[int, tuple[list[Tensor], list[Tensor]]] = {}
        for entry in self._entries:
            for gauge, sign in entry.gauges:
                incoming, outgoing = sides.setdefault(self.gauge_root(gauge), ([], []))
                (incoming if sign > 0 else outgoing).append(entry.rows)
        return {
            root: Gauge(
                tuple(incoming),
                tuple(outgoing),
                root not in odd,
                root not in homogeneous,
                root in nonlinear,
            )
            for root, (incoming, outgoing) in sides.items()
            if incoming and outgoing and not (root in odd and root in homogeneous)
        }

    def groups(self, gauges: Mapping[int, int]) -> tuple[Group, ...]:
        """The groups of units that can be renumbered; axes have the numbers of the ``gauges`` that act on
        them.
        """
        known = dict(gauges)
        blocks = self._blocks_of()
        entries: dict[int, list[_Entry]] = {root: [] for root in blocks}
        for entry in self._entries:
            root = self.root(entry.numbering)
            if root in entries:
                entries[root].append(entry)
        groups: dict[tuple[int, int], Group] = {}
        for tied in self._tied():
            free = [root for root in tied if root in blocks and entries[root]]
            if not free:
                continue
            first = free[0]
            if free == tied and all(blocks[root] == blocks[first] for root in tied):
                groups[first, 0] = (
                    self._block_group(tied, blocks[first], entries, known)
                    if blocks[first] > 1
                    else Group(
                        self.sizes[first],
                        tuple(self._axis(entry, entry.rows, known) for entry in entries[first]),
                    )
                )
                continue
            for root in free:  # the blocks cannot be renumbered, but the units inside them can
                inner = self._inner(root, blocks[root], entries, known)
                groups |= {(root, block): group for block, group in enumerate(inner)}
        return tuple(groups[key] for key in sorted(groups))

    def _block_group(
        self,
        tied: Sequence[int],
        count: int,
        entries: Mapping[int, Sequence[_Entry]],
        known: Mapping[int, int],
    ) -> Group:
        """The group of the blocks of tied numberings, with the groups inside each block."""
        axes: list[Axis] = []
        inside: list[list[Group]] = [[] for _ in range(count)]
        rotations: list[list[Rotation]] = [[] for _ in range(count)]
        for root in tied:
            single = self.sizes[root] == count
            for entry in entries[root]:
                if entry.in_blocks:
                    rows = entry.rows.reshape(count, -1)
                    axes.append(self._axis(entry, rows, known if single else {}))
            for block, group in enumerate(self._inner(root, count, entries, known)):
                inside[block].append(group)
        for numbering, given in self._rotations:
            if self.root(numbering) in tied:
                rotations = [[*a, *b] for a, b in zip(rotations, given, strict=True)]
        return Group(
            count,
            tuple(axes),
            tuple(map(tuple, inside)) if any(inside) else (),
            tuple(map(tuple, rotations)) if any(rotations) else (),
        )

    def _inner(
        self,
        root: int,
        count: int,
        entries: Mapping[int, Sequence[_Entry]],
        known: Mapping[int, int],
    ) -> list[Group]:
        """The group inside each of ``count`` blocks of a numbering; none if blocks have one unit."""
        each = self.sizes[root] // count
        if each == 1:
            return []
        return [
            Group(
                each,
                tuple(
                    self._axis(entry, entry.rows.reshape(count, each, -1)[block], known)
                    for entry in entries[root]
                ),
            )
            for block in range(count)
        ]

    def _axis(self, entry: _Entry, rows: Tensor, known: Mapping[int, int]) -> Axis:
        roots = (self.gauge_root(gauge) for gauge, _ in entry.gauges)
        return Axis(rows, tuple(sorted({known[root] for root in roots if root in known})))

    def _blocks_of(self) -> dict[int, int]:
        """The number of blocks of each numbering that is not fixed; 1 for one without blocks."""
        fixed = self.root(FIXED)
        wanted: dict[int, set[int]] = {}
        for numbering, blocks in self._blocks:
            wanted.setdefault(self.root(numbering), set()).add(blocks)
        result = {}
        for label in range(1, len(self.sizes)):
            root = self.root(label)
            counts = wanted.get(root, {1})
            (count, *others) = counts
            # Blocks of several sizes could be renumbered in fewer ways, which are left out.
            if root != fixed and not others and self.sizes[root] % count == 0:
                result[root] = count
        return result

    def _tied(self) -> list[list[int]]:
        """Numberings whose blocks are renumbered together, by their smallest labels."""
        roots = _disjoint_set({self.root(label) for label in range(len(self.sizes))})
        for one, other in self._ties:
            roots.merge(self.root(one), self.root(other))
        return [sorted(subset) for subset in roots.subsets()]
