"""`make demo`: the first barcode that a stranger sees is one of minima, and its bars have a length."""

from pathlib import Path

from orchestrator.runs.api import load_run
from tests.helpers.command import toscore

DEMO = Path(__file__).parents[1] / "examples" / "demo.yaml"
FEWER = ("minima.count=2", "saddles.refine='off'")


def test_the_demo_has_minima_and_a_bar_with_a_length(tmp_path, monkeypatch):
    """Two of its six: stationary, with positive curvature, and a barrier between them."""
    monkeypatch.chdir(tmp_path)
    settings = [word for setting in FEWER for word in ("--set", setting)]
    said = toscore("run", str(DEMO), "--in-process", *settings)
    assert said.code == 0, said.err
    assert "2 of 2 are minima" in said.out and "without a climb" not in said.out
    landscape = load_run("runs/demo").landscape
    (bar,) = landscape.barcodes["elder"].finite
    assert bar.length > 0.05
    for record in landscape.minima.values():
        assert record.verdict == "minimum" and record.gradient_norm < 1e-8
        assert record.eigenvalues[0] > record.eigenvalue_bounds[0]
