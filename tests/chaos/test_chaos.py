"""Whatever faults a run meets, it ends with the bits of an undisturbed run.

One short round is in the default suite. `make chaos` runs thirty on a folder, ten on S3 and five each on
emulators of Google Cloud Storage and Azure. A round is named by its seed, and a seed always draws the same
injuries, though not at the same microsecond.
"""

import itertools
import json
import random
import time
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from tests.chaos.injuries import (
    PROCESSES,
    damage_an_object,
    kill_a_worker,
    kill_the_driver,
    kill_the_raylet,
    raylets_of,
)
from tests.helpers import flaky_proxy, results, s3_server
from tests.helpers.command import toscore
from tests.helpers.process import started
from tests.helpers.waiting import wait_for
from workers.storage.open_objects import open_objects
from workers.storage.run_store import Store
from workers.storage.schema import MinimumRecord, PairRecord

SETTINGS = {
    "data": {"name": "digits", "subset": 600},
    "network": {"name": "fc", "hidden": [12]},
    "minima": {
        "count": 4,
        "epochs": 12,
        "optimizer": {"name": "adam", "lr": 0.02},
    },
    "paths": {
        "bezier_epochs": 3,
        "epochs": 16,
        "points": 9,
        "evaluate_every": 4,
    },
    "resources": {"workers": 2, "checkpoint_seconds": 0},
}
SHORT_CUT = 1
"""In this round Ray's node dies, an object is damaged and a worker is killed."""
ROUNDS = range(2, 32)
INJURIES, IN_A_SHORT_CUT = 3, 2
RESTARTS = 25


def write(folder, name, store=None):
    file = folder / f"{name}.yaml"
    file.write_text(json.dumps({"name": name, "store": store or str(folder / "runs"), **SETTINGS}))
    return file


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    said = toscore("run", write(folder, "quiet"), "--in-process")
    assert said.code == 0, said.err
    return folder / "runs" / "quiet"


def injured(folder, file, draw, injuries, count=INJURIES, between=lambda: None):
    """Run with injuries at drawn moments, starting again whenever it ends before its time."""
    left = [draw.choice(injuries) for _ in range(count)]
    for _ in range(RESTARTS):
        with started(folder, "run", file) as process:
            while left and process.poll() is None:
                time.sleep(draw.uniform(1.0, 5.0))
                if process.poll() is None:
                    left.pop()(process, draw)
            output, _ = process.communicate(timeout=240)
        if process.returncode == 0:
            return output
        between()
    raise AssertionError(f"not complete after {RESTARTS} starts: {output}")


def orphans(folder):
    """Processes that were started by a run and outlived it."""
    mark = str(folder)
    left = []
    for process in psutil.process_iter(["cmdline", "environ", "status"]):
        environment = process.info["environ"] or {}
        if environment.get("HOME") == mark and process.info["status"] != psutil.STATUS_ZOMBIE:
            left.append(" ".join(process.info["cmdline"] or []))
    return left


def check(undisturbed, run):
    assert results.bits(run) == results.bits(undisturbed)
    assert results.reduced(run) == results.reduced(undisturbed)
    assert set(results.times_completed(run).values()) == {1}


def chaos_round(undisturbed, folder, seed, injuries=INJURIES):
    draw = random.Random(seed)
    file, run = write(folder, "injured"), folder / "runs" / "injured"
    damages = [1] if draw.random() < 0.5 else []

    def between():
        if damages:
            damages.pop()
            damage_an_object(run, draw)

    injured(folder, file, draw, PROCESSES, injuries, between)
    check(undisturbed, run)
    wait_for(lambda: orphans(folder) == [], 20, otherwise=lambda: str(orphans(folder)))


def test_a_round(undisturbed, tmp_path):
    """After killed processes and a damaged object: same bits, no task twice, no process left."""
    chaos_round(undisturbed, tmp_path, SHORT_CUT, IN_A_SHORT_CUT)


@pytest.mark.chaos
@pytest.mark.parametrize("later", [2.0, 2.3])
def test_the_node_dies_while_its_workers_start(undisturbed, tmp_path, later):
    """The driver ends, and does not wait for ever for workers that cannot start."""
    file = write(tmp_path, "injured")
    with started(tmp_path, "run", file) as process:
        until = time.monotonic() + 60
        while not raylets_of(process) and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(later)
        kill_the_raylet(process, random.Random(0))
        process.communicate(timeout=100)
    assert process.returncode != 0
    assert toscore("run", file, "--in-process").code == 0
    check(undisturbed, tmp_path / "runs" / "injured")


@pytest.mark.chaos
@pytest.mark.parametrize("seed", ROUNDS)
def test_many_rounds(undisturbed, tmp_path, seed):
    """The same, thirty times."""
    chaos_round(undisturbed, tmp_path, seed)


def bucket_bits(store):
    """Names of all minima and paths: they contain the digests of their bytes, which `verify` checks."""
    assert store.verify() == []
    return {info.name for folder in ("minima", "paths") for info in store.objects.list(folder)}


def bursts(draw):
    """Without end: some requests pass, and then a few are refused or lose their answer."""
    while True:
        yield from ["pass"] * draw.randrange(5, 40)
        yield from [draw.choice(["refuse", "lose answer"])] * draw.randrange(1, 6)


def bucket_round(undisturbed, folder, url, proxy, draw, injuries):
    """A run in a bucket behind a proxy that follows `bursts`, while processes are injured."""
    proxy.script = bursts(draw)
    injured(folder, write(folder, "injured", url), draw, injuries)
    proxy.script = itertools.repeat("pass")
    store = Store(open_objects(f"{url}/injured"))
    assert bucket_bits(store) == set(results.bits(undisturbed))
    for kind in (MinimumRecord, PairRecord):
        keys = [record.key for record in store.records(kind)]
        assert len(keys) == len(set(keys))
    assert proxy.refused + proxy.lost > 10
    wait_for(lambda: orphans(folder) == [], 20, otherwise=lambda: str(orphans(folder)))


@pytest.mark.s3
@pytest.mark.chaos
@pytest.mark.parametrize("seed", range(10))
def test_s3_that_comes_and_goes(undisturbed, tmp_path, monkeypatch, seed):
    """S3 answers 503 in bursts, loses answers, dies and comes back, while processes are killed."""
    draw = random.Random(seed)
    with (
        s3_server.running(tmp_path / "s3") as server,
        flaky_proxy.running(server.port) as proxy,
    ):
        for name, value in {**server.environment, "AWS_ENDPOINT_URL": proxy.url}.items():
            monkeypatch.setenv(name, value)

        def restart_the_server(process, draw):
            server.stop()
            time.sleep(draw.uniform(0.5, 6.0))
            server.start()

        injuries = (restart_the_server, kill_a_worker, kill_the_driver)
        url = f"s3://{s3_server.BUCKET}/chaos"
        bucket_round(undisturbed, tmp_path, url, proxy, draw, injuries)


@pytest.mark.chaos
@pytest.mark.parametrize("seed", range(5))
def test_google_cloud_storage_that_stammers(undisturbed, tmp_path, monkeypatch, gcs, seed):
    """An emulator of Google Cloud Storage answers 503 in bursts and loses answers; processes are killed."""
    entries = json.loads(Path(gcs["GOOGLE_SERVICE_ACCOUNT"]).read_text())
    with flaky_proxy.running(int(entries["gcs_base_url"].rpartition(":")[2])) as proxy:
        key = tmp_path / "key.json"
        key.write_text(json.dumps({**entries, "gcs_base_url": proxy.url}))
        for name, value in {**gcs, "GOOGLE_SERVICE_ACCOUNT": str(key)}.items():
            monkeypatch.setenv(name, value)
        url = f"gs://{s3_server.BUCKET}/chaos-{seed}"
        injuries = (kill_a_worker, kill_the_driver)
        bucket_round(undisturbed, tmp_path, url, proxy, random.Random(seed), injuries)


@pytest.mark.chaos
@pytest.mark.parametrize("seed", range(5))
def test_azure_that_stammers(undisturbed, tmp_path, monkeypatch, azure, seed):
    """An emulator of Azure answers 503 in bursts and loses answers, while processes are killed."""
    endpoint = urlsplit(azure["AZURE_STORAGE_ENDPOINT"])
    with flaky_proxy.running(endpoint.port) as proxy:
        for name, value in {
            **azure,
            "AZURE_STORAGE_ENDPOINT": proxy.url + endpoint.path,
        }.items():
            monkeypatch.setenv(name, value)
        url = f"az://{s3_server.BUCKET}/chaos-{seed}"
        injuries = (kill_a_worker, kill_the_driver)
        bucket_round(undisturbed, tmp_path, url, proxy, random.Random(seed), injuries)
