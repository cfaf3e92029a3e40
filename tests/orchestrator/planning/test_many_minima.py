"""Lazy pairs, rungs, runs that grow and runs that reuse others, on real digits."""

import json
import shutil
from dataclasses import replace
from functools import partial

import pytest

from orchestrator.planning import disk_space
from orchestrator.planning.fingerprints import identify
from orchestrator.planning.plan import Plan
from orchestrator.run_file.reading import parse
from orchestrator.runs import maintenance
from tests.helpers import results
from tests.helpers.command import toscore
from tests.helpers.interruptions import killed_when
from tests.helpers.run_files import finished_run, write_run_file
from topo_core import barcode, bottleneck
from workers.storage.open_objects import open_objects
from workers.storage.record_files import decode_table, to_records
from workers.storage.run_store import Store
from workers.storage.schema import PairRecord

BASE = {
    "data": {"name": "digits", "subset": 400},
    "network": {"name": "fc", "hidden": [12]},
    "minima": {"count": 5, "epochs": 12, "optimizer": {"name": "adam", "lr": 0.02}},
    # Slow to fall, so that there is something left to decide.
    "paths": {
        "start": "line",
        "optimizer": {"name": "sgd", "lr": 0.05},
        "epochs": 16,
        "points": 7,
        "evaluate_every": 4,
    },
}


write = partial(write_run_file, settings=BASE)


def run(folder, name, **changes):
    return finished_run(write(folder, name, **changes))


def reduced(run_):
    return json.loads(toscore("reduce", run_, "--json").out)


def elder(result):
    heights = {(h["i"], h["j"]): h["height"] for h in result["heights"]}
    return barcode({m["id"]: m["loss"] for m in result["minima"]}, heights)


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """A run with all pairs at full length."""
    return run(tmp_path_factory.mktemp("everything"), "all")


def test_lazy_pairs_have_the_barcode_of_all(everything, tmp_path):
    """Lazy pairs give the barcode of all pairs within the tolerance, from fewer paths, and the output says
    so."""
    tolerance = 0.02
    lazy = run(tmp_path, "lazy", pairs={"rule": "lazy", "tolerance": tolerance})
    result, whole = reduced(lazy), reduced(everything)
    assert result["complete"] is True
    assert result["undecided"]["proved"] is True
    assert result["pairs"]["done"] + result["pairs"]["skipped"] == 10
    assert result["pairs"]["done"] == len(results.raw_records(lazy, "pairs"))
    assert bottleneck(elder(result), elder(whole)) <= tolerance
    assert "Proved" in toscore("reduce", lazy).out or not result["pairs"]["skipped"]


def test_a_budget_ends_a_lazy_run_and_says_what_is_open(everything, tmp_path):
    """With a budget of pairs a lazy run is complete, and bounds the deaths that the missing paths could
    give."""
    few = run(tmp_path, "few", pairs={"rule": "lazy", "tolerance": 1e-9, "max_pairs": 4})
    result = reduced(few)
    assert result["complete"] is True
    assert result["pairs"]["done"] == 4
    assert result["undecided"]["proved"] is False
    lows = {b["minimum"]: b["death_low"] for b in result["undecided"]["bars"]}
    true = {bar.minimum: bar.death for bar in elder(reduced(everything)).finite}
    for bar in elder(result).finite:
        assert lows.get(bar.minimum, bar.death) - 1e-9 <= true[bar.minimum] <= bar.death
    assert "Open" in toscore("reduce", few).out


def test_a_path_that_went_on_is_the_path_in_one_go(everything, tmp_path):
    """A path that was optimised rung by rung is the same object, to the last bit, as one optimised at
    once."""
    climbed = run(tmp_path, "rungs", pairs={"rule": "all", "rungs": [4, 8], "tolerance": 1e-6})
    whole = {file.name for file in (everything / "paths").iterdir()}
    shared = {file.name for file in (climbed / "paths").iterdir()} & whole
    result = reduced(climbed)
    assert result["complete"] is True
    tops = [row for row in results.raw_records(climbed, "pairs") if row["epochs"] == 16]
    assert len(tops) == len(shared) >= 4
    assert len(results.raw_records(climbed, "pairs")) > len(tops)
    kept = {row["key"]: row["height"] for row in results.raw_records(everything, "pairs")}
    assert all(kept[row["key"]] == row["height"] for row in tops)


def test_an_adaptive_run_that_is_killed_chooses_the_same_paths(tmp_path):
    """An adaptive run that is killed twice and continued has the objects of an undisturbed run."""
    rule = {"rule": "lazy", "tolerance": 1e-4, "rungs": [6]}
    quiet = run(tmp_path, "quiet", pairs=rule)
    file, killed = write(tmp_path, "killed", pairs=rule), tmp_path / "runs" / "killed"
    for count in (1, 4):
        with killed_when(lambda c=count: len(results.raw_records(killed, "pairs")) >= c):
            finished_run(file)
    finished_run(file)
    assert results.bits(killed) == results.bits(quiet)
    assert results.reduced(killed) == results.reduced(quiet)
    assert set(results.times_completed(killed).values()) == {1}


def test_paths_through_others_start_lower(everything, tmp_path):
    """With `start: through` a path begins as a route over finished paths, which is lower than the line."""
    paths = {**BASE["paths"], "start": "through"}
    routed = run(tmp_path, "through", paths=paths)
    assert reduced(routed)["complete"] is True

    def starts(run_):
        rows = results.raw_records(run_, "pairs")
        return {(row["i"], row["j"]): row["history"][0]["dense_maximum"] for row in rows}

    lines, routes = starts(everything), starts(routed)
    assert all(routes[pair] < lines[pair] for pair in lines)
    file, killed = write(tmp_path, "killed", paths=paths), tmp_path / "runs" / "killed"
    with killed_when(lambda: len(results.raw_records(killed, "pairs")) >= 5):
        finished_run(file)
    assert results.bits(finished_run(file)) == results.bits(routed)


def test_growing_runs_only_what_is_new(tmp_path):
    """A run that grows from 10 to 14 minima executes exactly the 4 new minima and the 46 new pairs."""
    small = {
        "minima": {"count": 10, "epochs": 2},
        "paths": {"start": "line", "epochs": 1, "points": 3, "evaluate_every": 1},
    }
    grown = run(tmp_path, "grow", **small)
    before = results.times_completed(grown)
    assert len(before) == 10 + 45
    small["minima"]["count"] = 14
    run(tmp_path, "grow", **small)
    after = results.times_completed(grown)
    assert len(after) - len(before) == 4 + 46
    assert set(after.values()) == {1}
    assert before.keys() <= after.keys()


def test_longer_paths_run_again_and_minima_do_not(tmp_path):
    """With more epochs, paths are optimised again, between the same minima."""
    small = {
        "minima": {"count": 3, "epochs": 2},
        "paths": {"bezier_epochs": 2, "epochs": 2, "points": 3},
    }
    longer = run(tmp_path, "longer", **small)
    small["paths"]["epochs"] = 3
    run(tmp_path, "longer", **small)
    assert len(results.raw_records(longer, "minima")) == 3
    assert len(results.raw_records(longer, "pairs")) == 6
    assert reduced(longer)["pairs"]["done"] == 3


def test_rounds_of_a_plan_are_keys_of_the_plan():
    """Paths of the last rung have the keys of a run without rungs, so that either run reuses the other."""
    plain = parse({"name": "x", **BASE})
    rungs = parse({"name": "x", **BASE, "pairs": {"rungs": [4]}})
    identity = identify(plain)
    assert Plan(plain, identity).pair_key((0, 1)) == Plan(rungs, identity).pair_key((0, 1))
    assert len(set(Plan(rungs, identity).path_keys())) == 20


def test_results_of_another_run_are_reused(everything, tmp_path):
    """Results with equal keys are copied bit for bit, and only the other tasks are executed."""
    said = toscore(
        "run",
        write(
            tmp_path,
            "next",
            minima={**BASE["minima"], "count": 6},
            reuse=[str(everything)],
        ),
        "--in-process",
    )
    assert said.code == 0, said.err
    assert "15 results of other runs" in said.err
    bits, before = results.bits(tmp_path / "runs" / "next"), results.bits(everything)
    assert before.items() <= bits.items()
    assert len(bits) == len(before) + 1 + 5


def test_reusing_what_is_not_there_is_refused(tmp_path):
    """`reuse` of a run that does not exist is refused in one sentence, and nothing is written."""
    said = toscore("run", write(tmp_path, "next", reuse=[str(tmp_path / "none")]), "--in-process")
    assert said.code == 2
    assert "reuse names" in said.err and "holds no run" in said.err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("keep", "kept"), [("none", 0), ("bars", None)])
def test_points_that_are_not_kept_change_no_number(everything, tmp_path, keep, kept):
    """With `keep_paths` fewer paths are stored; heights and bars are the same, and the run stays complete."""
    thrifty = run(tmp_path, "thrifty", keep_paths=keep)
    result = reduced(thrifty)
    assert {**result, "run": ""}["heights"] == reduced(everything)["heights"]
    assert result["complete"] is True
    saddles = {
        tuple(bar["saddle"])
        for bars in result["barcodes"]["0"].values()
        for bar in bars
        if bar["saddle"]
    }
    files = list((thrifty / "paths").glob("*"))
    assert len(files) == (len(saddles) if kept is None else kept) < 10
    run(tmp_path, "thrifty", keep_paths=keep)
    assert len(reduced(thrifty)["heights"]) == 10
    verified = json.loads(toscore("verify", thrifty, "--json").out)
    assert verified["sound"] is True
    assert len(verified["heights"]) == len(files)


def test_verify_recomputes_heights(everything):
    """`verify` computes every height from the stored points by the plain evaluation, within the stated
    tolerance."""
    said = toscore("verify", everything, "--heights", "10", "--json")
    found = json.loads(said.out)
    assert said.code == 0
    assert found["sound"] is True
    assert len(found["heights"]) == 10
    assert all(h["agrees"] and h["allowed"] < 1e-3 * h["stored"] for h in found["heights"])


@pytest.mark.parametrize("kind", ["minima", "paths", "records/pairs"])
def test_verify_names_what_is_damaged(everything, tmp_path, kind):
    """After a flipped bit in any object `verify` prints its name and exits with 3."""
    copy = tmp_path / "copy"
    shutil.copytree(everything, copy)
    victim = sorted((copy / kind).iterdir())[0]
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 4
    victim.write_bytes(bytes(data))
    said = toscore("verify", copy, "--heights", "0")
    assert said.code == 3
    assert victim.name in said.out.replace("\n", "")


def test_verify_finds_a_false_height(everything, tmp_path):
    """`verify` finds a wrong height, in a record whose digest is right, from the stored points."""
    copy = tmp_path / "copy"
    shutil.copytree(everything, copy)
    segment = sorted((copy / "records" / "pairs").iterdir())[0]
    records = to_records(decode_table(segment.read_bytes(), PairRecord), PairRecord)
    segment.unlink()
    lied = [replace(record, height=0.9 * record.height) for record in records]
    # ImmutableObjects as a worker would, so that name and digest agree.
    Store(open_objects(str(copy))).publish_records(lied, term=1)
    said = toscore("verify", copy, "--heights", "10")
    assert said.code == 3
    assert "computed again" in said.out


def test_what_cannot_fit_the_disk_is_refused(tmp_path, monkeypatch):
    """A run that cannot fit the disk is refused before anything is written, with both sizes and what to
    do."""
    monkeypatch.setattr(disk_space, "free_bytes", lambda store: 1_000_000)
    file = write(tmp_path, "big", minima={**BASE["minima"], "count": 400})
    said = toscore("run", file, "--in-process")
    assert said.code == 2
    assert "1 MB free" in said.err and "keep_paths" in said.err
    assert not (tmp_path / "runs").exists()


def test_many_segments_become_few(everything, tmp_path, monkeypatch):
    """A run that left many segments is compacted by the next driver, and nothing changes."""
    monkeypatch.setattr(maintenance, "SEGMENTS", 2)
    copy = tmp_path / "runs" / "all"
    shutil.copytree(everything, copy)
    assert len(list((copy / "records" / "pairs").iterdir())) > 2
    before = reduced(copy)
    run(tmp_path, "all")
    assert len(list((copy / "records" / "pairs").iterdir())) == 1
    assert reduced(copy) == before
