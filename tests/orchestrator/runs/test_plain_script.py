"""The barcode of a reduced study's run, found again by a short script that shares no code with us."""

import ast
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import plain_barcode, results
from tests.helpers.command import toscore

SCRIPT = Path(plain_barcode.__file__)
SETTINGS = [
    "scale=reduced",
    "matrix.depth=[fc2]",
    "matrix.seed=[0]",
    "data.subset=100",
    "minima.count=3",
    "minima.epochs=100",
    "paths.epochs=10",
]

BIRTH_TOLERANCE = 1e-7
"""Absolute: losses are float32 forward passes added up in float64; the script is float64 throughout."""


def test_the_script_is_short_and_ours_is_not_in_it():
    """Fewer than 150 lines, and it imports no package of this repository."""
    source = SCRIPT.read_text()
    assert len(source.splitlines()) < 150
    nodes = list(ast.walk(ast.parse(source)))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    tops = {name.partition(".")[0] for name in names}
    assert not tops & {"topo_core", "workers", "orchestrator", "tests"}
    assert tops - set(sys.stdlib_module_names) == {"numpy", "pyarrow", "safetensors", "torch"}


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """What the program says of a run of study:fig2-fmnist, and what the script finds in its files."""
    folder = tmp_path_factory.mktemp("plain")
    settings = [f"--set={item}" for item in (*SETTINGS, f"store={folder}")]
    said = toscore("run", "study:fig2-fmnist", *settings, "--in-process", "--quiet")
    assert said.code == 0, said.err
    run = folder / "fig2-fmnist-reduced" / "fc2.seed0"
    ours = json.loads(toscore("reduce", run, "--json").out)
    done = subprocess.run(
        [sys.executable, "-I", SCRIPT, run], capture_output=True, text=True, check=True, cwd=folder
    )
    index = {row["key"]: row["index"] for row in results.raw_records(run, "minima")}
    return ours, json.loads(done.stdout), index, results.raw_records(run, "pairs")


def test_the_minima_have_the_same_losses(both):
    """Births, one by one."""
    ours, plain, index, _ = both
    losses = {index[key]: loss for key, loss in plain["losses"].items()}
    for minimum in ours["minima"]:
        assert minimum["loss"] == pytest.approx(losses[minimum["id"]], abs=BIRTH_TOLERANCE)


def test_the_passes_have_the_same_heights(both):
    """Heights agree within what each record states: its bracket, and 1e-5 of the range of its losses."""
    _, plain, index, pairs = both
    found = {
        frozenset(index[key] for key in pair.split()): value
        for pair, value in plain["heights"].items()
    }
    assert len(found) == len(pairs) == 3
    for record in pairs:
        stated = record["height_high"] - record["height"]
        stated += 1e-5 * (max(record["losses"]) - min(record["losses"]))
        stated += BIRTH_TOLERANCE * record["height"]
        pair = frozenset((record["i"], record["j"]))
        assert abs(record["height"] - found[pair]) <= stated


@pytest.mark.parametrize("method", ["elder", "direct"])
def test_the_bars_are_the_same(both, method):
    """One bar a minimum, the same ones infinite, and TO-scores equal within the tolerance of passes."""
    ours, plain, index, pairs = both
    bars = {index[key]: bar for key, bar in plain["bars"][method].items()}
    tolerance = max(r["height_high"] - r["height"] + 2e-5 * max(r["losses"]) for r in pairs)
    listed = ours["barcodes"]["0"][method]
    assert {bar["minimum"] for bar in listed} == set(bars)
    for bar in listed:
        birth, death = bars[bar["minimum"]]
        assert bar["birth"] == pytest.approx(birth, abs=BIRTH_TOLERANCE)
        if bar["death"] is None:
            assert death == math.inf
        else:
            assert bar["death"] == pytest.approx(death, abs=tolerance)
    assert ours["to_score"]["0"][method] == pytest.approx(plain["to_score"][method], abs=tolerance)
