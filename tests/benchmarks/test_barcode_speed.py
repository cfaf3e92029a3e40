"""Time and memory of reducing many minima, against GUDHI fed simplex by simplex.

Ours fills GUDHI from arrays for index 1 and more; index 0 is a spanning tree.

    python -m pytest -m benchmark tests/benchmarks/test_barcode_speed.py -s

Each measurement has a process of its own. Peak memory is that of a process that does nothing but
ours, everything imported included; times alternate between ours and GUDHI in another.
"""

import json
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.benchmark

COMMON = """
    import json, resource, statistics, sys, time
    import gudhi
    import numpy as np
    from topo_core.homology.barcodes import barcode
    from topo_core.homology.filtrations import all_simplices, filtration
    from topo_core.homology.persistent_homology import persistence

    draw = np.random.default_rng(0)

    def minima(n):
        upper = np.triu(1 + draw.random((n, n)), 1)
        return draw.random(n).tolist(), upper + upper.T

    def timed(work):
        wall, started = time.perf_counter(), time.process_time()
        result = work()
        return result, time.process_time() - started, time.perf_counter() - wall

    def fed(parts):
        tree = gudhi.SimplexTree()
        for simplices, births in parts:
            for simplex, birth in zip(simplices.tolist(), births.tolist()):
                tree.insert(simplex, birth)
        return tree

    def peak():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
"""

INDEX_0 = """
    losses, heights = minima(1000)
    i, j = np.triu_indices(1000, 1)
    parts = [(np.arange(1000)[:, None], np.array(losses)), (np.stack([i, j], 1), heights[i, j])]

    def ours():
        return sorted((bar.birth, bar.death) for bar in barcode(losses, heights).bars)

    def theirs():
        tree = fed(parts)
        tree.compute_persistence(homology_coeff_field=2, persistence_dim_max=True)
        return sorted(map(tuple, tree.persistence_intervals_in_dimension(0).tolist()))
"""

INDEX_1 = """
    rise, count = RISE, COUNT
    losses, heights = minima(count)
    triples = all_simplices(count, 2)
    a, b, c = triples.T
    faces = np.maximum(np.maximum(heights[a, b], heights[b, c]), heights[a, c])
    values = (faces if rise else 2) + (rise or 1) * draw.random(len(triples))

    def ours():
        complex_ = filtration(losses, heights, (triples, values))
        return [(bar.birth, bar.death) for bar in persistence(complex_, 1)[1].bars]

    if sys.argv[1] == "times":
        complex_ = filtration(losses, heights, (triples, values))
        parts = list(zip(complex_.simplices, complex_.values))

    def theirs():
        tree = fed(parts)
        tree.compute_persistence(homology_coeff_field=2, persistence_dim_max=False)
        return sorted(map(tuple, tree.persistence_intervals_in_dimension(1).tolist()))
"""

MEASURE = """
    before = peak()
    if sys.argv[1] == "memory":
        bars, seconds, wall = timed(ours)
        print(json.dumps({
            "peak_mb": peak(), "before_mb": before,
            "bars": len(bars), "seconds": seconds, "wall": wall,
        }))
    else:
        rounds = [(timed(ours), timed(theirs)) for _ in range(int(sys.argv[2]))]
        (bars, *_), (others, *_) = rounds[0]
        middle = lambda who, which: statistics.median(r[who][which] for r in rounds)
        print(json.dumps({
            "bars": len(bars), "same": bars == others,
            "seconds": middle(0, 1), "wall": middle(0, 2),
            "gudhi_seconds": middle(1, 1), "gudhi_wall": middle(1, 2),
        }))
"""


def measured(problem, *arguments):
    """What the program prints in a process of its own, where peak memory means something."""
    program = "\n".join(textwrap.dedent(part) for part in (COMMON, problem, MEASURE))
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def both(problem, rounds):
    """Memory and times, printed."""
    numbers = measured(problem, "memory") | measured(problem, "times", str(rounds))
    print(numbers | {"ratio": numbers["gudhi_seconds"] / numbers["seconds"]})
    return numbers


def test_a_thousand_minima():
    """499,500 heights to index 0 in less than a second of processor time and 500 MB."""
    numbers = both(INDEX_0, 7)
    assert numbers["same"] and numbers["bars"] == 1000
    assert numbers["seconds"] < 1 and numbers["peak_mb"] < 500


@pytest.mark.parametrize("rise", [0.1, None])
def test_all_triangles_of_sixty_minima(rise):
    """34,220 triangles to index 1 in less than a second, with the bars of GUDHI fed one by one.

    Own maxima are drawn up to ``rise`` above the faces, heights range over 1; with None every triangle
    comes after all edges, as after short runs on networks, which is the slow case of GUDHI.
    """
    numbers = both(index_1(60, rise), 1)
    assert numbers["same"] and numbers["seconds"] < 1


def index_1(count, rise):
    """The program for ``count`` minima, all triangles above all edges where ``rise`` is None."""
    return f"RISE, COUNT = {rise}, {count}\n" + textwrap.dedent(INDEX_1)
