"""Starts of triangles on two of their sides."""

import torch

from topo_core.paths.polyline import resample
from topo_core.simplices.corner_starts import two_sided_starts
from topo_core.simplices.lattice import lattice


def arc(first, last, count):
    """[count, 2], part of the unit circle."""
    angles = torch.linspace(first, last, count, dtype=torch.float64)
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def sliver(m):
    """The boundary nodes of a triangle whose third side runs along the two others, on a circle."""
    nodes = lattice(2, m)
    sides = {2: arc(0, 1, 200), 1: arc(0, 3, 600), 0: arc(1, 3, 400)}
    points = torch.zeros(len(nodes.coordinates), 2, dtype=torch.float64)
    for omitted, side in sides.items():
        points[nodes.face(omitted)] = resample(side, m + 1)
    return nodes, points[nodes.boundary]


def test_one_start_of_a_bent_sliver_does_not_cut_across_the_bend():
    """Its nodes are on the arc, up to the sagitta of a segment; those of the harmonic one are not."""
    nodes, fixed = sliver(8)
    starts = two_sided_starts(fixed, nodes)
    assert starts.shape == (3, len(nodes.interior), 2)
    radius = torch.linalg.vector_norm(starts[1], dim=1)
    assert float(radius.min()) > 1 - (2 / 8) ** 2 / 8 - 1e-6
    harmonic = nodes.harmonic @ fixed
    assert float(torch.linalg.vector_norm(harmonic, dim=1).min()) < 0.9


def test_rows_run_from_one_side_to_the_other():
    """Nodes of a row are at equal steps along the two sides, between the nodes that end it."""
    nodes, fixed = sliver(8)
    points = torch.zeros(len(nodes.coordinates), 2, dtype=torch.float64)
    points[nodes.boundary], points[nodes.interior] = fixed, two_sided_starts(fixed, nodes)[1]
    row = torch.stack([points[nodes.row((5 - k, 3, k))] for k in range(6)])
    angles = torch.atan2(row[:, 1], row[:, 0])
    assert float(angles.diff().min()) > 0
    assert float(angles.diff().std() / angles.diff().mean()) < 0.01
