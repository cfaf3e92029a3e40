"""Barcodes of whole landscapes against grids on which no path was optimised, one row a landscape.

    python -m tests.benchmarks.barcodes                   # everything below; about 20 minutes
    python -m tests.benchmarks.barcodes gaussians         # random sums of wells, seeds 0 to 99
    python -m tests.benchmarks.barcodes hills 10 20       # wells and hills in the plane, seeds 10 to 19
    python -m tests.benchmarks.barcodes space             # the same in three dimensions, seeds 0 to 19
    python -m tests.benchmarks.barcodes known             # Müller-Brown, Himmelblau, Rastrigin, rings
    python -m tests.benchmarks.barcodes plain             # triangles and solids on the minima alone

What is compared is in ``tests/helpers/compared_landscapes.py``. ``error`` is the bottleneck distance of the
two barcodes, ``±`` the estimated sampling error of ours.
"""

import math
import sys

import torch

from tests.helpers.compared_landscapes import KNOWN, PLAIN, in_space, in_the_plane
from topo_core.reference_landscapes.surfaces import gaussians, hills


def rows(family: str, first: int, last: int):
    """The rows of one family."""
    if family in ("known", "plain"):
        for make in {"known": KNOWN, "plain": PLAIN}[family].values():
            yield make()
    elif family == "space":
        for seed in range(first, last):
            yield in_space(seed)
    else:
        for seed in range(first, last):
            yield in_the_plane({"gaussians": gaussians, "hills": hills}[family], seed)


def main(*arguments: str) -> dict[str, list[str]]:
    """Print every row, and which differ; the names of those, by family."""
    torch.set_num_threads(1)
    families = {
        "gaussians": 100,
        "hills": 100,
        "space": 20,
        "known": len(KNOWN),
        "plain": len(PLAIN),
    }
    wanted = arguments[:1] or tuple(families)
    failed: dict[str, list[str]] = {}
    for family in wanted:
        first, last = (int(argument) for argument in arguments[1:3] or ("0", families[family]))
        found = []
        for row in rows(family, first, last):
            print(row, flush=True)
            found.append(row)
        failed[family] = [row.name for row in found if not row.agrees]
        worst = max(
            (max(row.errors) for row in found if math.isfinite(max(row.errors))), default=0.0
        )
        names = f"; not {', '.join(failed[family])}" if failed[family] else ""
        print(
            f"{family}: {len(found) - len(failed[family])} of {len(found)} within the sampling error"
            f"{names}; largest finite error {worst:.1e}"
        )
    return failed


if __name__ == "__main__":
    main(*sys.argv[1:])
