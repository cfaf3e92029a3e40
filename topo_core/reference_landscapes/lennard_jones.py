"""Seven atoms with the Lennard-Jones potential: four minima and their bars.

The energy is 4 Σ (r⁻¹² − r⁻⁶) over all pairs, in units of the depth of the well. Rotations and translations
are fixed: atom 0 is at the origin, atom 1 on the x axis, atom 2 in the xy plane, so 15 coordinates are left.
Energies as in the Cambridge Cluster Database (Hoare & Pal 1971; Tsai & Jordan 1993). A minimum has a copy for
each permutation and reflection of atoms; those listed are joined by the saddles at which the bars end, in a
star around minimum 1.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from topo_core.reference_landscapes.landscape import Landscape, landscape_of

BARS = (
    (-16.50538, float("inf")),
    (-15.93504, -15.44473),
    (-15.59321, -15.31986),
    (-15.53306, -15.28342),
)
"""Birth and death of each minimum's bar, up to permutations of atoms."""

PASSES: Mapping[tuple[int, int], float] = {
    (0, 1): BARS[1][1],
    (1, 2): BARS[2][1],
    (1, 3): BARS[3][1],
}
"""Lowest passes between the listed minima: no path from the higher end leads lower without reaching this
energy.
"""

# fmt: off
_NEAR = (
    (
        1.1152, 0.5487, 0.9709, -0.368, -0.2147,
        -1.0306, -0.368, 0.8382, -0.6369, 0.5906,
        0.3446, -0.9218, 0.5487, -0.7328, -0.6369,
    ),
    (
        1.1196, 0.5598, 0.9647, 0.5598, -0.3236,
        -0.914, 0.0011, 0.6418, -0.9122, 1.1185,
        0.6418, -0.9122, 0.5598, -0.9678, -0.0002,
    ),
    (
        1.1258, 0.5582, 0.9637, 0.5698, -0.7545,
        -0.6111, -0.3633, -0.2869, -1.0129, 0.5698,
        0.322, -0.9159, 0.5582, -0.8206, 0.5053,
    ),
    (
        1.1223, 0.5604, 0.9653, 0.5509, 0.3136,
        -0.9198, 0.6042, 1.4236, -1.0173, 1.4853,
        0.8504, -0.6253, 0.5664, -0.7564, -0.6047,
    ),
)
# fmt: on


def lennard_jones_7() -> Landscape:
    """The pentagonal bipyramid and three other minima, lowest first."""
    return replace(landscape_of(_energy, _NEAR, PASSES), barcode=BARS)


def _energy(points: Tensor) -> Tensor:
    zero = points.new_zeros(len(points), 1)
    atoms = torch.stack(
        [
            zero.expand(-1, 3),
            torch.cat([points[:, :1], zero, zero], dim=1),
            torch.cat([points[:, 1:3], zero], dim=1),
            *points[:, 3:].reshape(-1, 4, 3).unbind(1),
        ],
        dim=1,
    )
    i, j = torch.triu_indices(7, 7, 1, device=points.device)
    power = (atoms[:, i] - atoms[:, j]).square().sum(2) ** -3
    return 4 * (power.square() - power).sum(1)
