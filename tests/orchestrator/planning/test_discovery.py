"""`minima.discover`: dips inside paths are trained further, and the resulting minima get paths to all
others."""

import json
from functools import partial

import pytest

from tests.helpers import results
from tests.helpers.command import toscore
from tests.helpers.interruptions import killed_when
from tests.helpers.run_files import finished_run, write_run_file

SETTINGS = {
    "data": {"name": "digits", "subset": 500},
    "network": {"name": "fc", "hidden": [12]},
    # Trained for too short a time to be minima: paths find lower places between them.
    "minima": {"count": 3, "epochs": 4, "discover": True},
    "paths": {"epochs": 20, "points": 9, "evaluate_every": 5},
    "resources": {"workers": 2},
}


write = partial(write_run_file, settings=SETTINGS)


@pytest.fixture(scope="module")
def quiet(tmp_path_factory):
    return finished_run(write(tmp_path_factory.mktemp("quiet"), "quiet"))


def test_dips_become_minima(quiet):
    """Minima that are trained from a dip are lower than it and have a path to every other minimum."""
    result = json.loads(toscore("reduce", quiet, "--json").out)
    minima = results.raw_records(quiet, "minima")
    found = [row for row in minima if row["source"].startswith("dip at")]
    assert 1 <= len(found) <= 3
    assert result["complete"] is True
    count = 3 + len(found)
    assert [m["id"] for m in result["minima"]] == list(range(count))
    assert result["pairs"]["total"] == result["pairs"]["done"] == count * (count - 1) // 2
    profiles = {row["key"]: row for row in results.raw_records(quiet, "pairs")}
    for row in found:
        path = profiles[row["source"].split()[-1]]
        assert row["loss"] < min(path["losses"])
    assert len(result["barcodes"]["0"]["elder"]) == count


def test_without_the_key_dips_are_left_alone(quiet, tmp_path):
    """Without `discover` the run has its three minima alone, and the same objects."""
    minima = {**SETTINGS["minima"], "discover": False}
    plain = finished_run(write(tmp_path, "plain", minima=minima))
    assert len(json.loads(toscore("reduce", plain, "--json").out)["minima"]) == 3
    assert results.bits(plain).items() <= results.bits(quiet).items()


def test_a_run_that_is_killed_finds_the_same_minima(quiet, tmp_path):
    """A run that is killed while paths to new minima are optimised ends with the same bits, no task twice."""
    file, run = write(tmp_path, "killed"), tmp_path / "runs" / "killed"
    with killed_when(lambda: len(results.raw_records(run, "minima")) >= 4):
        finished_run(file)
    finished_run(file)
    assert results.bits(run) == results.bits(quiet)
    assert results.reduced(run) == results.reduced(quiet)
    assert set(results.times_completed(run).values()) == {1}


def test_a_list_of_pairs_cannot_join_what_is_found(tmp_path):
    """`discover` with a list of pairs is refused in one sentence with exit code 2."""
    file = write(tmp_path, "list", pairs={"rule": "list", "pairs": [[0, 1]]})
    said = toscore("run", file, "--in-process")
    assert said.code == 2
    assert "minima.discover" in said.err
