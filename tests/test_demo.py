"""`make demo`: the first barcode that a stranger sees is one of minima, and its bars have a length."""

from pathlib import Path

import pytest

from orchestrator.runs.api import load_run
from tests.helpers.command import toscore
from topo_core.homology.bar_ends import EndKind

DEMO = Path(__file__).parents[1] / "examples" / "demo.yaml"
FEWER = ("minima.count=2", "saddles.refine='off'")


def test_the_demo_has_minima_and_a_bar_with_a_length(tmp_path, monkeypatch):
    """Two of its six: stationary, with positive curvature, and a barrier between them."""
    monkeypatch.chdir(tmp_path)
    settings = [word for setting in FEWER for word in ("--set", setting)]
    said = toscore("run", str(DEMO), "--in-process", *settings)
    assert said.code == 0, said.err
    assert "2 of 2 are minima" in said.out and "does not rise" not in said.out
    landscape = load_run("runs/demo").landscape
    (bar,) = landscape.barcodes["elder"].finite
    assert bar.length > 0.05
    for record in landscape.minima.values():
        assert record.verdict == "minimum" and record.gradient_norm < 1e-8
        assert record.eigenvalues[0] > record.eigenvalue_bounds[0]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_most_bars_of_the_demo_end_at_verified_saddles(tmp_path, monkeypatch):
    """As `make demo` runs it: each verified end is the dense maximum of a path between two minima."""
    monkeypatch.chdir(tmp_path)
    said = toscore("run", str(DEMO), "--in-process")
    assert said.code == 0, said.err
    run = load_run("runs/demo")
    ends = run.landscape.verified.ends
    verified = [end for end in ends if end.kind is EndKind.SADDLE]
    assert len(ends) == 5 and len(verified) >= 3
    for end in verified:
        record, path = run.saddles[end.path], run.path(*end.path)
        assert record.ended == "verified" and record.index == 1
        assert record.gradient_norm <= record.gradient_tolerance
        assert path.height == pytest.approx(record.loss, abs=1e-4 * record.loss)
