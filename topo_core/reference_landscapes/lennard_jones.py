"""Seven atoms with the Lennard-Jones potential: four minima and their bars.

The energy is 4 Σ (r⁻¹² − r⁻⁶) over all pairs, in units of the depth of the well. Rotations and translations
are fixed: atom 0 is at the origin, atom 1 on the x axis, atom 2 in the xy plane, so 15 coordinates are left.
Energies as in the Cambridge Cluster Database (Hoare & Pal 1971; Tsai & Jordan 1993). Copies by permutation
and reflection of atoms are not listed.
"""

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

_NEAR = (
    (
        -1.1152,
        0.368,
        -1.0527,
        -0.5906,
        -0.8321,
        -0.5254,
        -0.5487,
        0.198,
        -0.9505,
        -0.5487,
        -0.773,
        0.5874,
        0.368,
        -0.4526,
        -0.9505,
    ),
    (
        1.1196,
        0.5598,
        0.9647,
        0.5598,
        -0.3236,
        -0.914,
        0.0011,
        0.6418,
        -0.9122,
        1.1185,
        0.6418,
        -0.9122,
        0.5598,
        -0.9678,
        -0.0002,
    ),
    (
        -1.8545,
        -0.9273,
        -1.6061,
        -0.9273,
        -0.5354,
        0.3065,
        -0.3679,
        -0.8583,
        -0.6155,
        -1.4867,
        -0.8583,
        -0.6155,
        -0.9273,
        0.1106,
        -0.6155,
    ),
    (
        -1.8511,
        -0.9246,
        0.6241,
        -1.9156,
        1.1068,
        0.1711,
        -0.3686,
        0.4593,
        0.9548,
        -1.4848,
        0.4469,
        0.9621,
        -0.9258,
        -0.3938,
        0.4844,
    ),
)


def lennard_jones_7() -> Landscape:
    """The pentagonal bipyramid and three other minima, lowest first."""
    found = landscape_of(_energy, _NEAR, {})
    return Landscape(found.objective, found.minima, found.losses, {}, barcode=BARS)


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
