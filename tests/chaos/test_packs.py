"""Paths optimised together, as on a GPU, whose worker and driver are killed meanwhile."""

import json

import pytest

from orchestrator.planning.fingerprints import identify
from orchestrator.planning.plan import Plan
from orchestrator.run_file.reading import load
from orchestrator.runs.provenance import provenance
from orchestrator.runs.stored_run import config_of
from tests.helpers import results
from tests.helpers.command import toscore
from tests.helpers.process import started, wait_until, workers_of
from tests.helpers.run_files import write_run_file
from workers.execution.strategy_probe import hardware
from workers.problems.evaluation import Evaluation
from workers.storage.open_objects import open_objects
from workers.storage.run_store import Store
from workers.storage.schema import PairRecord

pytestmark = pytest.mark.chaos

TOGETHER = 8
SETTINGS = {
    "data": {"name": "digits", "subset": 600},
    "network": {"name": "fc", "hidden": [12]},
    "minima": {"count": 6, "epochs": 30, "optimizer": {"name": "adam", "lr": 0.02}},
    "paths": {
        "bezier_epochs": 1,
        "epochs": 400,
        "points": 9,
        "evaluate_every": 100,
    },
    "resources": {"workers": 1, "checkpoint_seconds": 0},
}


def packed(folder, name):
    """A run file, and the run's folder, where an earlier start has decided on packs: a GPU's choice."""
    file = write_run_file(folder, name, SETTINGS)
    run = load(file)
    evaluation = Evaluation(strategy="linear", paths_at_once=TOGETHER)
    written = config_of(Plan(run, identify(run)), evaluation, "", provenance(run, hardware()))
    Store(open_objects(run.location)).publish_config(written, term=0)
    return file, folder / "runs" / name


def under_way(run):
    """How many open paths have checkpoints; those of minima are of earlier epochs."""
    late = [file for file in results.checkpoint_files(run) if int(file.name[:8]) >= 20]
    # Records are read where there is something to look for: this is asked fifty times a second.
    return len({p.parent.name for p in late} - set(results.times_completed(run))) if late else 0


def heights(run):
    return {r.key: r.height for r in Store(open_objects(str(run))).records(PairRecord)}


def test_a_pack_that_is_killed_goes_on(tmp_path):
    """SIGKILL of the worker in its first pack of paths, of the driver in a later one: the heights of an
    undisturbed run within rounding, its minima bit for bit, and no finished path is run twice."""
    quiet_file, quiet = packed(tmp_path, "quiet")
    said = toscore("run", quiet_file, "--in-process")
    assert said.code == 0, said.err
    file, run = packed(tmp_path, "injured")
    log = tmp_path / "log.jsonl"
    with started(tmp_path, "run", file, "--log", log) as process:
        wait_until(lambda: under_way(run) == TOGETHER, process)
        (worker,) = workers_of(process)
        worker.kill()
        wait_until(lambda: bool(list((run / "records" / "pairs").glob("*"))), process)
        wait_until(lambda: under_way(run) > 1, process)
        process.kill()
    finished = set(results.times_completed(run))
    with started(tmp_path, "run", file) as process:
        output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert "WorkerLost" in {row["event"] for row in events}
    assert len(finished) < 6 + 15
    assert set(results.times_completed(run).values()) == {1}
    assert heights(run) == pytest.approx(heights(quiet), rel=1e-3)
    minima = [
        {name: data for name, data in results.bits(one).items() if name.startswith("minima/")}
        for one in (run, quiet)
    ]
    assert minima[0] == minima[1]
    assert not list((run / "checkpoints").glob("*/*"))
