"""`load_run`: what comes out of a run in Python is what its store holds."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch

import topo_core as tc
from orchestrator import load_run
from orchestrator.run_file.errors import UserError
from tests.helpers.made_run import HEIGHTS, LOSSES, complete_run, made_run


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return complete_run(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def run(made):
    return load_run(str(made.folder))


def test_losses_and_heights_are_arrays(run):
    """By the numbers of the minima; the matrix is symmetric with the losses on its diagonal."""
    assert run.complete and run.name == "made"
    assert run.losses.tolist() == list(LOSSES)
    assert (run.heights == run.heights.T).all()
    assert np.diag(run.heights).tolist() == list(LOSSES)
    assert all(run.heights[pair] == height for pair, height in HEIGHTS.items())


def test_barcodes_are_those_of_topo_core(run):
    """The arrays go back into `topo_core` and give the same bars."""
    assert run.barcode() == tc.barcode(dict(enumerate(LOSSES)), dict(sorted(HEIGHTS.items())))
    assert run.to_score() == pytest.approx(0.65 / 2)
    again = tc.barcode(run.losses.tolist(), run.heights)
    assert [(b.birth, b.death) for b in again.bars] == [
        (b.birth, b.death) for b in run.barcode().bars
    ]


def test_what_is_missing_is_not_a_number(tmp_path):
    """A minimum that is not there yet is NaN, a pass that is not known is infinite."""
    made = made_run(tmp_path, 4)
    made.minima({0: 0.1, 2: 0.3})
    made.paths({(0, 2): 0.9}, LOSSES)
    run = load_run(str(made.folder))
    assert not run.complete
    assert np.isnan(run.losses).tolist() == [False, True, False, True]
    assert run.heights[0, 2] == 0.9 and math.isinf(run.heights[0, 1])
    with pytest.raises(UserError, match="no path between the minima 0 and 1"):
        run.path(0, 1)
    with pytest.raises(UserError, match="no minimum 1 yet"):
        run.minimum(1)


def test_points_are_read_when_asked_for(made, run):
    """A path opens without its points; reading them gives what was published."""
    path = run.path(3, 0)
    assert path.pair == (0, 3) and path.height == HEIGHTS[0, 3]
    assert "_points" not in vars(path)
    assert path.points.tolist() == [[0, 0], [1.5, 1], [3, 0]]
    assert path.losses.max() == path.height and path.positions[-1] == 1
    assert len(list(run.paths())) == len(HEIGHTS)


def test_any_place_of_a_path(run):
    """The ends are exact, the peak is where the record says, and beyond the ends there is nothing."""
    path = run.path(0, 3)
    assert path.at(0).tolist() == [0, 0] and path.at(1).tolist() == [3, 0]
    assert path.at("peak").tolist() == pytest.approx([1.5, 1])
    assert path.at(0.25).tolist() == pytest.approx([0.75, 0.5])
    with pytest.raises(UserError, match="give 0 to 1, or peak"):
        path.at(1.5)


def test_points_that_are_gone_are_one_sentence(tmp_path):
    """A path whose object was lost still has its record, and says how its points come back."""
    made = complete_run(tmp_path)
    run = load_run(str(made.folder))
    for file in (made.folder / "paths").iterdir():
        file.unlink()
    assert run.path(0, 3).height == HEIGHTS[0, 3]
    with pytest.raises(UserError, match="`toscore run` makes them again"):
        run.path(0, 3).at(0.5)


def test_a_minimum_is_a_state_dict(run):
    """As it was published, by name."""
    state = run.minimum(2)
    assert set(state) == {"weight", "bias"} and torch.equal(
        state["weight"], torch.full((2, 3), 2.0)
    )


def test_tables_for_pandas(run):
    """Tables have a row for each record, bar or point of a path, with the types of the records."""
    minima, passes, bars = (run.frame(name) for name in ("minima", "passes", "bars"))
    assert minima["loss"].tolist() == list(LOSSES)
    assert passes.set_index(["i", "j"])["height"].to_dict() == HEIGHTS
    elder = bars[bars.method == "elder"].set_index("minimum")
    assert elder.death.to_dict() == {0: math.inf, 1: 0.7, 2: 0.5, 3: 0.8}
    assert (elder.loc[3, "saddle_i"], elder.loc[3, "saddle_j"]) == (0, 3)
    profiles = run.table("profiles")
    assert profiles.num_rows == sum(len(path.losses) for path in run.paths())
    with pytest.raises(UserError, match="choose one of minima, passes"):
        run.table("minimum")


def test_importing_the_api_imports_no_large_library():
    """`from orchestrator import load_run`, and a run without Ray, import none of these at their start."""
    script = (
        "import sys; from orchestrator import launch, load_run; "
        "large = ('ray', 'matplotlib', 'jinja2', 'scipy.optimize', 'scipy.cluster', 'sklearn'); "
        "print([m for m in large if m in sys.modules])"
    )
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == "[]"
