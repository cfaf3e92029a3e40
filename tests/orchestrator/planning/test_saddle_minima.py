"""Ends of descents from saddles join a run as minima, and its bars end at verified saddles."""

import os
import signal

import pytest
import safetensors.torch

from tests.helpers import results
from tests.helpers.command import toscore
from tests.helpers.process import started, wait_until
from tests.helpers.run_files import write_run_file
from topo_core.reference_landscapes.surfaces import muller_brown

MODULE = '''
"""Müller and Brown's surface as a loss of the parameters alone."""

from topo_core.reference_landscapes.surfaces import muller_brown


class Surface:
    dimension = 2

    def __init__(self):
        self._known = muller_brown()

    def loss(self, point):
        return self._known.objective.function(point[None])[0]
'''
KNOWN = muller_brown()
PASSES = (-40.66484, -72.24894)


def write(folder):
    """A run of the lowest minimum and of the one that only the third minimum connects with it."""
    (folder / "surface.py").write_text(MODULE)
    for k in (0, 1):
        safetensors.torch.save_file({"point": KNOWN.minima[k]}, folder / f"{k}.safetensors")
    settings = {
        "objective": "surface:Surface",
        "dtype": "float64",
        "minima": {
            "count": 0,
            "from": [str(folder / f"{k}.safetensors") for k in (0, 1)],
            "polish": "on",
            "discover": True,
        },
        "paths": {"start": "line", "epochs": 2, "points": 5},
        "saddles": {"refine": "bars"},
    }
    return write_run_file(folder, "a", settings)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    file = write(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(folder)
        said = toscore("run", file, "--in-process")
        assert said.code == 0, said.err
        yield folder / "runs" / "a"


def test_the_minimum_between_two_others_joins_the_run(whole):
    """The descents of the saddles end at a minimum that was not listed: it becomes one, polished and judged,
    with paths to the others, and all bars end at the known passes."""
    result = results.reduced(whole)
    assert result["complete"] and len(result["minima"]) == 3
    assert result["minima"][2]["loss"] == pytest.approx(float(KNOWN.losses[2]), abs=1e-8)
    assert result["minima"][2]["verdict"] == "minimum"
    (record,) = [row for row in results.raw_records(whole, "minima") if "descent" in row["source"]]
    assert record["epochs"] == 0 and record["polished"]
    assert result["verified"]["counts"] == {"saddle": 2, "kink": 0, "attained": 0, "no barrier": 0}
    deaths = [bar["death"] for bar in result["barcodes"]["0"]["elder"] if bar["death"]]
    assert sorted(deaths) == pytest.approx(sorted(PASSES), abs=1e-3)
    assert result["saddles"]["total"] == result["saddles"]["done"]


@pytest.mark.slow
def test_a_run_killed_at_any_saddle_is_continued(whole, tmp_path):
    """SIGKILL after the first saddle and after the minimum below it: same bits, nothing twice."""
    file, run = write(tmp_path), tmp_path / "runs" / "a"
    for reached in (
        lambda: len(results.raw_records(run, "saddles")) >= 1,
        lambda: len(results.raw_records(run, "minima")) == 3,
    ):
        with started(tmp_path, "run", file, "--in-process") as process:
            wait_until(reached, process)
            os.kill(process.pid, signal.SIGKILL)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        patch.syspath_prepend(tmp_path)
        said = toscore("run", file, "--in-process")
        assert said.code == 0, said.err
        assert results.bits(run) == results.bits(whole)
        assert results.reduced(run) == results.reduced(whole)
    keys = [row["key"] for row in results.raw_records(run, "saddles")]
    assert len(keys) == len(set(keys))
