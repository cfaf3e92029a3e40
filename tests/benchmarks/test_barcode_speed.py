"""Time and memory of reducing many minima, against GUDHI fed simplex by simplex."""

import itertools
import json
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.benchmark

INDEX_0 = """
    import json, resource, time
    import numpy as np
    from topo_core import barcode
    draw = np.random.default_rng(0)
    losses = draw.random(1000)
    upper = np.triu(1 + draw.random((1000, 1000)), 1)
    heights = upper + upper.T
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    bars = barcode(losses.tolist(), heights)
    seconds = time.process_time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"seconds": seconds, "peak_mb": peak / 1024, "bars": len(bars.bars)}))
"""

INDEX_1 = """
    import json, time
    import gudhi
    import numpy as np
    from topo_core.filtration import all_simplices, filtration
    from topo_core.persistence import persistence
    draw = np.random.default_rng(0)
    n = 200
    losses = draw.random(n)
    upper = np.triu(1 + draw.random((n, n)), 1)
    triples = all_simplices(n, 2)
    values = 2 + draw.random(len(triples))
    started = time.process_time()
    found = filtration(losses.tolist(), upper + upper.T, (triples, values))
    bars = persistence(found, 1)[1]
    seconds = time.process_time() - started
    started = time.process_time()
    tree = gudhi.SimplexTree()
    for simplices, births in zip(found.simplices, found.values):
        for simplex, birth in zip(simplices.tolist(), births.tolist()):
            tree.insert(simplex, birth)
    tree.compute_persistence(persistence_dim_max=False)
    literal = time.process_time() - started
    theirs = tree.persistence_intervals_in_dimension(1)
    same = sorted(map(tuple, theirs.tolist())) == [(b.birth, b.death) for b in bars.bars]
    print(json.dumps({"seconds": seconds, "literal": literal, "triangles": len(triples), "same": same}))
"""


def measured(program):
    """What a program prints in a process of its own, where peak memory means something."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def test_a_thousand_minima():
    """499,500 heights to index 0 in less than a second of processor time and 500 MB."""
    found = measured(INDEX_0)
    print(found)
    assert found["bars"] == 1000
    assert found["seconds"] < 1 and found["peak_mb"] < 500


def test_all_triangles_of_two_hundred_minima():
    """1.3 million triangles to index 1 in less than 5 s, with the bars of GUDHI fed one by one."""
    found = measured(INDEX_1)
    print(found, "ratio", found["literal"] / found["seconds"])
    assert found["triangles"] == len(list(itertools.combinations(range(200), 3)))
    assert found["same"]
    assert found["seconds"] < 5
