"""``toscore reduce --prove``: an upper bound of each path that ends a bar."""

import json

import pytest

from orchestrator import load_run
from orchestrator.launch import LaunchOptions, execute
from orchestrator.run_file.reading import parse
from tests.helpers.command import toscore

RUN = {
    "name": "r",
    "data": {"name": "digits", "subset": 60},
    "network": {"name": "fc", "hidden": [4], "activation": "tanh"},
    "dtype": "float64",
    "loss": {"ridge": 1e-3},
    "minima": {"count": 2, "epochs": 40, "batch_size": 30, "polish": "off"},
    "paths": {"points": 5, "epochs": 2, "batch_size": 30, "start": "line"},
    "saddles": {"refine": "off"},
}


def test_the_bounds_of_a_run(tmp_path):
    """A bar's height has a proved bound above it and close to it, in the text and in the JSON."""
    run = parse({**RUN, "store": str(tmp_path)})
    assert execute(run, LaunchOptions(in_process=True, quiet=True)).code == 0
    told = json.loads(toscore("reduce", tmp_path / "r", "--prove", "--json").out)["bounds"]
    (bar,) = load_run(run.location).barcode().finite
    assert bar.length > 0.01
    assert [bound["pair"] for bound in told] == [[0, 1]] and told[0]["tight"]
    assert told[0]["upper"] >= told[0]["height"] - 1e-12
    assert told[0]["upper"] == pytest.approx(bar.death, abs=1e-2 * bar.length)
    assert "proved upper bound" in toscore("reduce", tmp_path / "r", "--prove").out
