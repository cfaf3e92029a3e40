"""From a loss and its minima to the barcodes of all indices (section 1.4), in one call.

Every pair of minima is joined by an optimised path, every triple is filled by an optimised triangle, and so
on up to the dimension that the highest index needs. The simplices enter at their highest losses, and
persistent homology pairs those that open a class with those that close it (``simplicial_landscape``). With
``subdivide`` the passes themselves are the edges (``cell_landscape``).
"""

from torch import Tensor

from topo_core.morse.cell_landscape import barcodes_of_cells
from topo_core.morse.landscape_results import LandscapeBarcodes, LandscapeSettings
from topo_core.morse.simplicial_landscape import barcodes_of_simplices
from topo_core.objectives.protocol import Objective


def landscape_barcodes(
    objective: Objective,
    minima: Tensor,
    max_index: int = 1,
    settings: LandscapeSettings | None = None,
    *,
    seed: int = 0,
) -> LandscapeBarcodes:
    """The barcodes of index 0 to ``max_index`` of a loss with known minima.

    Optimises C(n, 2) paths, C(n, 3) triangles, ... up to C(n, max_index + 2) simplices.

    Args:
        objective: the loss; ``from_function`` makes one of a formula.
        minima: [n, d], points where the gradient vanishes; ``polish_minimum`` finds them.
        max_index: the highest index.
        settings: all defaults when None.
        seed: of all random numbers.

    Raises:
        ValueError: fewer than two minima (one is enough with ``subdivide`` and ``reach``); a
            negative ``max_index``, or one above 1 with ``subdivide``; ``subdivide`` without exact
            gradients.
    """
    settings = settings or LandscapeSettings()
    least = 1 if settings.subdivide and settings.reach else 2
    if minima.ndim != 2 or len(minima) < least or max_index < 0:
        raise ValueError(
            f"minima has shape {tuple(minima.shape)} and max_index is {max_index}; give two minima "
            "or more as rows, and an index of 0 or more."
        )
    if settings.subdivide:
        if max_index > 1:
            raise ValueError(
                f"max_index is {max_index}, and subdivide computes index 0 and 1 only; "
                "leave subdivide out for a higher index."
            )
        return barcodes_of_cells(objective, minima, max_index, settings, seed)
    return barcodes_of_simplices(objective, minima, max_index, settings, seed)
