"""Hidden units and the indices of their weights in the flat parameters of a network."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

from torch import Tensor


@dataclass(frozen=True)
class Axis:
    """The weights of each unit of a group along one axis of one parameter.

    Attributes:
        rows: [n, m], for each of the n units the indices of its m weights in the flat parameters.
        gauges: numbers of the gauges (see ``Gauge``) that multiply or divide the weights of a unit.
    """

    rows: Tensor
    gauges: tuple[int, ...] = ()


@dataclass(frozen=True)
class Gauge:
    """A sign and a scale of each unit that the incoming weights set and the outgoing weights undo.

    Attributes:
        incoming: [n, m] each: indices of the weights that are multiplied.
        outgoing: [n, m] each: indices of the weights that are divided.
        odd: whether the value of a unit passes only through odd functions, so that signs can change.
        homogeneous: whether it passes only through positively homogeneous functions, so that units can be
            scaled.
        rectified: whether one of these functions is not linear, as ReLU.
    """

    incoming: tuple[Tensor, ...]
    outgoing: tuple[Tensor, ...]
    odd: bool
    homogeneous: bool
    rectified: bool


@dataclass(frozen=True)
class Rotation:
    """Two families of d vectors that enter the network only through Σ first ⊗ second.

    An invertible matrix A can be applied to the first and its inverse transpose to the second. These are the
    queries and keys of an attention head, or its values and the weights that lead away from them.

    Attributes:
        first: [d, m1], indices of the vectors that A multiplies.
        second: [d, m2], indices of the vectors that its inverse transpose multiplies.
        name: which vectors these are, as in "queries and keys".
    """

    first: Tensor
    second: Tensor
    name: str


@dataclass(frozen=True)
class Group:
    """Units that can be renumbered: hidden units, channels, attention heads, or groups of channels.

    Attributes:
        size: number of units.
        axes: the weights that move with the units.
        inside: for each unit, the groups that can be renumbered inside it; empty if there are none.
        rotations: for each unit, the vectors inside it that can be rotated; empty if there are none.
    """

    size: int
    axes: tuple[Axis, ...]
    inside: tuple[tuple["Group", ...], ...] = ()
    rotations: tuple[tuple[Rotation, ...], ...] = ()

    def renumberings(self) -> list[tuple[Tensor, ...]]:
        """The rows of the axes of this group, and of all groups inside it."""
        inner = chain.from_iterable(group.renumberings() for group in chain(*self.inside))
        return [tuple(axis.rows for axis in self.axes), *inner]


@dataclass(frozen=True)
class Shift:
    """Numbers that can be added to some weights, which others compensate; or which have no effect at all.

    Adding δ to unit u adds ``-δ w`` to each weight ``targets[u, k]``, where w is the weight
    ``factors[u, k]``, or 1 without ``factors``; with ``weights`` alone, δ is added to all of them.

    Attributes:
        name: which weights these are, as in "biases of keys".
        weights: [n, m], indices to which δ of each of n units is added.
        factors: [n, k], indices of w; None for none.
        targets: [n, k], indices of the weights that compensate; None if nothing has to.
    """

    name: str
    weights: Tensor
    factors: Tensor | None = None
    targets: Tensor | None = None


@dataclass(frozen=True)
class Units:
    """The symmetries that the graph of a network suggests.

    Attributes:
        groups: units that can be renumbered, in the order of the layers.
        gauges: signs and scales, by number.
        shifts: numbers that can be added.
        first_layers: [units, inputs] or [units, inputs + 1], indices of the weights and biases of linear
            layers that read the inputs of the network.
    """

    groups: tuple[Group, ...]
    gauges: tuple[Gauge, ...]
    shifts: tuple[Shift, ...]
    first_layers: tuple[Tensor, ...] = ()

    def rotations(self) -> Iterable[Rotation]:
        """All rotations, of all units."""
        return (one for group in self.groups for unit in group.rotations for one in unit)
