"""The main job on real digits: its results, and that no interruption or damage changes them."""

import datetime
import itertools
import json
import math
import os
import shutil
import signal
import time
from functools import partial

import numpy as np
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch

import orchestrator.launch
import orchestrator.runs.provenance
import orchestrator.scheduling.holder
import workers.execution.worker
from tests.helpers import results
from tests.helpers.command import toscore
from tests.helpers.process import started, wait_until, workers_of
from tests.helpers.run_files import finished_run, write_run_file
from workers.problems.data_sets import load_dataset
from workers.problems.networks import build
from workers.tasks.specs import DataSpec, NetworkSpec

SETTINGS = {
    "data": "digits",
    "network": {"name": "fc", "hidden": [16]},
    "minima": {"count": 4, "epochs": 12, "optimizer": {"name": "adam", "lr": 0.02}},
    "paths": {"bezier_epochs": 1, "epochs": 12, "points": 9, "evaluate_every": 4},
    "resources": {"workers": 2, "checkpoint_seconds": 0},
}
MINIMA, PAIRS = 4, 6
ON_RAY = ("--set", "resources.workers=1")


write = partial(write_run_file, settings=SETTINGS)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A complete run in one process, without an interruption."""
    return finished_run(write(tmp_path_factory.mktemp("undisturbed"), "a"))


@pytest.fixture
def folder(tmp_path):
    return tmp_path


def test_what_is_printed_follows_the_contract(undisturbed):
    """`reduce --json` has the keys that other programs rely on, and a barcode of all minima."""
    result = json.loads(toscore("reduce", undisturbed, "--json").out)
    assert result["run"] == "a" and result["complete"] is True
    assert result["pairs"] == {"total": PAIRS, "done": PAIRS, "skipped": 0, "failed": 0}
    assert [m["id"] for m in result["minima"]] == list(range(MINIMA))
    assert {"loss", "test_loss", "accuracy", "test_accuracy"} <= set(result["minima"][0])
    assert {(h["i"], h["j"]) for h in result["heights"]} == {
        (i, j) for j in range(MINIMA) for i in range(j)
    }
    for method in ("elder", "direct"):
        bars = result["barcodes"]["0"][method]
        assert [b["death"] is None for b in bars].count(True) == 1
        assert len(bars) == MINIMA
        assert result["to_score"]["0"][method] >= 0


def test_direct_bars_are_never_shorter(undisturbed):
    """Algorithm 1 considers fewer paths than formula (1), so none of its passes is lower."""
    bars = json.loads(toscore("reduce", undisturbed, "--json").out)["barcodes"]["0"]
    elder = {b["minimum"]: b["death"] or math.inf for b in bars["elder"]}
    direct = {b["minimum"]: b["death"] or math.inf for b in bars["direct"]}
    assert all(direct[m] >= elder[m] for m in elder)


def plain_loss(point, data):
    """Mean cross entropy of a flat point by the module's own forward pass, in float64."""
    module = build(NetworkSpec("fc", (("hidden", (16,)),)), data.input_shape, data.classes).double()
    with torch.no_grad():
        torch.nn.utils.vector_to_parameters(torch.as_tensor(point).double(), module.parameters())
        outputs = module(data.train_inputs.double())
    return float(torch.nn.functional.cross_entropy(outputs, data.train_targets))


def test_heights_from_the_stored_points_alone(undisturbed):
    """A plain loop over a denser grid gives each height, within the stated tolerance."""
    data = load_dataset(DataSpec("digits"))
    for row in results.raw_records(undisturbed, "pairs"):
        table = pq.read_table(undisturbed / row["object"]).to_pylist()
        points = np.array([line["values"] for line in table if line["name"] == "points"])
        grid = [
            plain_loss((1 - t) * a + t * b, data)
            for a, b in itertools.pairwise(points)
            for t in np.linspace(0, 1, 25)
        ]
        tolerance = 1e-4 * (max(grid) - min(grid)) + 1e-6
        assert max(grid) <= row["height"] + tolerance
        assert row["height"] <= max(grid) + 2e-3 * (max(grid) - min(grid))


def test_minima_are_the_users_own_networks(undisturbed):
    """A stored minimum loads into the network and has the loss and accuracy of its record."""
    data = load_dataset(DataSpec("digits"))
    for row in results.raw_records(undisturbed, "minima"):
        state = safetensors.torch.load_file(undisturbed / row["object"])
        module = build(NetworkSpec("fc", (("hidden", (16,)),)), data.input_shape, data.classes)
        module.load_state_dict(state)
        with torch.no_grad():
            outputs = module(data.train_inputs)
        loss = torch.nn.functional.cross_entropy(outputs.double(), data.train_targets)
        assert row["loss"] == pytest.approx(float(loss), rel=1e-5)
        right = (outputs.argmax(1) == data.train_targets).double().mean()
        assert row["accuracy"] == pytest.approx(float(right))


def test_running_again_does_nothing(undisturbed):
    """Starting a complete run again executes no task and writes no object."""
    before = results.bits(undisturbed), results.times_completed(undisturbed)
    said = toscore("run", undisturbed.parent.parent / "a.yaml", "--in-process")
    assert said.code == 0
    assert (results.bits(undisturbed), results.times_completed(undisturbed)) == before


def test_ray_gives_the_same_bits_and_survives_its_workers(undisturbed, folder):
    """On a Ray cluster whose workers are killed, the results have the bits of a run in one process."""
    file, run, killed = write(folder, "b"), folder / "runs" / "b", []
    with started(folder, "run", file) as process:
        for kind in ("minima", "pairs"):
            wait_until(lambda k=kind: results.raw_records(run, k), process)
            victims = workers_of(process)
            if victims:
                victims[0].kill()
                killed.append(victims[0].pid)
        output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    assert killed, "no worker was there to be killed"
    assert "∞" in output and "TO-score" in output
    assert results.bits(run) == results.bits(undisturbed)
    assert results.reduced(run) == results.reduced(undisturbed)
    assert set(results.times_completed(run).values()) == {1}
    assert not results.checkpoint_epochs(run)


def interrupted(folder, file, reached, blow, *options):
    """Start a run, send it a signal once `reached` is true, and return its exit code and output."""
    with started(folder, "run", file, *options) as process:
        wait_until(reached, process)
        os.kill(process.pid, blow)
        output, _ = process.communicate(timeout=60)
    return process.returncode, output


def test_a_killed_driver_is_continued(undisturbed, folder):
    """SIGKILL while minima train, while paths are optimised and when some are done: same bits, no task twice.

    In the middle it is a driver with a Ray cluster.
    """
    file, run = write(folder, "c"), folder / "runs" / "c"
    alone = ("--in-process",)
    for reached, options in (
        (lambda: results.raw_records(run, "minima"), alone),
        (
            lambda: (
                len(results.raw_records(run, "minima")) == MINIMA and results.checkpoint_epochs(run)
            ),
            ON_RAY,
        ),
        (lambda: len(results.raw_records(run, "pairs")) >= 2, alone),
    ):
        interrupted(folder, file, reached, signal.SIGKILL, *options)
    check_continued(undisturbed, file, run)


@pytest.mark.parametrize(
    ("blow", "options"), [(signal.SIGINT, ON_RAY), (signal.SIGTERM, ("--in-process",))]
)
def test_ctrl_c_says_how_to_go_on(undisturbed, folder, blow, options):
    """An interrupted run exits with 130, prints the signal and the command that continues it, and
    continues."""
    file, run = write(folder, "c"), folder / "runs" / "c"
    code, output = interrupted(
        folder, file, lambda: len(results.raw_records(run, "pairs")) >= 1, blow, *options
    )
    assert code == 130, output
    assert f"Interrupted by {signal.Signals(blow).name}. To continue: toscore run {file}" in output
    check_continued(undisturbed, file, run)


def check_continued(undisturbed, file, run):
    said = toscore("run", file, "--in-process")
    assert said.code == 0, said.err
    assert results.bits(run) == results.bits(undisturbed)
    assert results.reduced(run) == results.reduced(undisturbed)
    assert set(results.times_completed(run).values()) == {1}


def truncate(data):
    return data[: len(data) // 2]


def flip(data):
    return data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]


@pytest.mark.parametrize("damage", [truncate, flip])
@pytest.mark.parametrize("kind", ["records/minima", "records/pairs", "minima", "paths"])
def test_a_damaged_object_is_named_and_made_again(undisturbed, folder, kind, damage):
    """An object that is truncated, or has a flipped bit, is in no barcode; it is named, and recomputed to
    the same bits."""
    run = folder / "runs" / "a"
    shutil.copytree(undisturbed, run)
    victim = sorted((run / kind).iterdir())[0]
    victim.write_bytes(damage(victim.read_bytes()))
    seen = json.loads(toscore("reduce", run, "--json").out)
    if kind.startswith("records"):
        assert seen["complete"] is False
        assert f"{kind}/{victim.name}" in [d["object"] for d in seen["damaged"]]
    said = toscore("run", write(folder, "a"), "--in-process")
    assert said.code == 0, said.err
    assert victim.name in said.err and "damaged" in said.err
    assert results.bits(run) == results.bits(undisturbed)
    assert results.reduced(run) == results.reduced(undisturbed)


def test_a_pair_that_diverges_fails_alone(undisturbed, folder):
    """The reason of its failure is recorded, the others finish, the exit code is 3, and the barcode is
    incomplete."""
    states = [
        safetensors.torch.load_file(undisturbed / row["object"])
        for row in results.raw_records(undisturbed, "minima")
    ]
    # ReLU is homogeneous: the same network, with weights that overflow half-way to any other.
    wild = {k: v.double() for k, v in states[2].items()}
    wild["1.weight"], wild["1.bias"] = wild["1.weight"] * 1e30, wild["1.bias"] * 1e30
    wild["3.weight"] = wild["3.weight"] / 1e30
    states[2] = {k: v.float() for k, v in wild.items()}
    for index, state in enumerate(states[:3]):
        safetensors.torch.save_file(state, folder / f"{index}.safetensors")
    names = [f"{index}.safetensors" for index in range(3)]
    file, run = write(folder, "d", minima={"from": names}), folder / "runs" / "d"
    said = toscore("run", file, "--in-process")
    assert said.code == 3, said.out + said.err
    result = json.loads(toscore("reduce", run, "--json").out)
    assert result["complete"] is False
    assert result["pairs"] == {"total": 3, "done": 1, "skipped": 0, "failed": 2}
    assert {f["kind"] for f in result["failures"]} == {"diverged"}
    assert result["to_score"]["0"]["elder"] is None
    assert "Incomplete" in said.out and "diverged" in said.err
    status = json.loads(toscore("status", run, "--json").out)
    assert len(status["failures"]) == 2
    assert toscore("retry", run, "--in-process").code == 3


def test_a_clock_that_jumps_changes_nothing(undisturbed, folder, monkeypatch):
    """A wall clock that jumps by days at every reading is recorded and decides nothing."""
    jumps = itertools.cycle([0.0, 4e5, -9e5, 3e3, -7e6])
    real = time.time

    class Jumping(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls.fromtimestamp(real() + next(jumps), tz)

    monkeypatch.setattr(time, "time", lambda: real() + next(jumps))
    for module in (
        workers.execution.worker,
        orchestrator.launch,
        orchestrator.scheduling.holder,
        orchestrator.runs.provenance,
    ):
        monkeypatch.setattr(module, "datetime", Jumping)
    file = write(folder, "e")
    assert toscore("run", file, "--in-process").code == 0
    assert toscore("run", file, "--in-process").code == 0
    run = folder / "runs" / "e"
    assert results.bits(run) == results.bits(undisturbed)
    assert results.reduced(run) == results.reduced(undisturbed)
    assert set(results.times_completed(run).values()) == {1}
