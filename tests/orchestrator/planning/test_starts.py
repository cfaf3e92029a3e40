"""The starts of paths that a run file can name, on real digits."""

import re

import pytest
import torch

from tests.helpers import results
from tests.helpers.command import toscore
from topo_core.paths.coordinate_units import PROBES
from workers.storage.open_objects import open_objects
from workers.storage.run_store import Store

SETTINGS = """
data: digits
network: {name: fc, hidden: [8]}
minima: {count: 2, epochs: 6}
"""


def run(folder, name, paths, more=""):
    file = folder / f"{name}.yaml"
    file.write_text(f"name: {name}\nstore: {folder}/runs\n{SETTINGS}{paths}\n{more}")
    return toscore("run", file, "--in-process"), folder / "runs" / name


def only_pair(store):
    (row,) = results.raw_records(store, "pairs")
    return row


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A run whose path starts as the line; the others take its minima."""
    folder = tmp_path_factory.mktemp("starts")
    said, store = run(folder, "straight", "paths: {epochs: 6, points: 7, start: line}")
    assert said.code == 0, said.err
    return folder, store


def test_moved(straight, tmp_path):
    """A path between other minima of the same numbers is moved: it ends exactly at the minima of this run."""
    _, store = straight
    said, elsewhere = run(tmp_path, "elsewhere", "paths: {epochs: 1, points: 7}", "seed: 5")
    assert said.code == 0, said.err
    paths = f"paths: {{epochs: 0, points: 7, start: moved, warm_from: {elsewhere}}}"
    said, moved = run(tmp_path, "moved", paths, f"reuse: [{store}]")
    assert said.code == 0, said.err
    mine, old, new = (
        Store(open_objects(str(s))).read_path(only_pair(s)["object"])["points"]
        for s in (store, elsewhere, moved)
    )
    assert torch.equal(new[[0, -1]], mine[[0, -1]])
    middle = old[3] + ((mine[0] - old[0]) + (mine[-1] - old[-1])) / 2
    assert torch.allclose(new[3], middle, atol=2e-3)  # the stored path is resampled by arc length


def test_aligned(straight):
    """The end is the same network with its units renumbered, nearer to the start; the record says so."""
    folder, store = straight
    said, aligned = run(
        folder, "aligned", "paths: {epochs: 6, points: 7, start: aligned}", f"reuse: [{store}]"
    )
    assert said.code == 0, said.err
    direct, quotient = only_pair(store), only_pair(aligned)
    assert (direct["quotient"], quotient["quotient"]) == (False, True)
    assert quotient["losses"][-1] == pytest.approx(direct["losses"][-1], rel=1e-5)
    assert quotient["history"][0]["dense_maximum"] < direct["history"][0]["dense_maximum"]
    assert quotient["history"][0]["length"] < direct["history"][0]["length"]
    end, renumbered = (
        Store(open_objects(str(s))).read_path(only_pair(s)["object"])["points"][-1]
        for s in (store, aligned)
    )
    assert not torch.equal(end, renumbered)
    assert torch.equal(end.sort().values, renumbered.sort().values)


def test_warm(straight):
    """A path that continues the path of another run begins lower than that one did, and ends no higher."""
    folder, store = straight
    paths = f"paths: {{epochs: 6, points: 7, start: warm, warm_from: {store}}}"
    said, warm = run(folder, "warm", paths, f"reuse: [{store}]")
    assert said.code == 0, said.err
    before, after = only_pair(store), only_pair(warm)
    assert after["history"][0]["dense_maximum"] < before["history"][0]["dense_maximum"]
    assert after["height"] <= before["height"] * 1.01  # spread again over its seven points


def test_evaluations_of_the_start_count(straight):
    """The gradients that a trained curve took are part of the record."""
    folder, store = straight
    paths = "paths: {epochs: 1, points: 7, start: bezier, bezier_epochs: 2, batch_size: 2000}"
    said, bezier = run(folder, "bezier", paths, f"reuse: [{store}]")
    assert said.code == 0, said.err
    assert only_pair(bezier)["gradient_evaluations"] == PROBES + 2 + 5


@pytest.mark.parametrize(
    ("paths", "sentence"),
    [
        ("{start: warm}", "needs warm_from"),
        ("{start: line, warm_from: x}", "only warm and moved read it"),
    ],
)
def test_starts_that_a_run_file_cannot_ask_for(tmp_path, paths, sentence):
    """They are refused in one sentence, before anything is written."""
    said, store = run(tmp_path, "bad", f"paths: {paths}")
    assert said.code == 2 and sentence in said.err
    assert "paths.start" in said.err or "paths.warm_from" in said.err
    assert not store.exists()


@pytest.mark.parametrize(
    ("paths", "reason"),
    [
        ("start: routes, batch_size: 500", "routes.*needs exact gradients"),
        ("start: warm, warm_from: WHERE", "no path between the minima 0 and 1"),
    ],
)
def test_starts_that_fail(straight, tmp_path, paths, reason):
    """What shows only on the worker is a failed task with its reason, and not a bug."""
    _, store = straight
    elsewhere, empty = run(tmp_path, "elsewhere", "paths: {epochs: 1}", "seed: 5")
    assert elsewhere.code == 0
    paths = f"paths: {{epochs: 1, {paths.replace('WHERE', str(empty))}}}"
    said, failed = run(tmp_path, "failed", paths, f"reuse: [{store}]")
    assert said.code != 0
    (failure,) = Store(open_objects(str(failed))).failures().values()
    assert failure["kind"] == "bad input"
    assert re.search(reason, failure["reason"])
    assert not results.raw_records(failed, "pairs")


def test_the_test_loss_along_a_path(straight):
    """It is measured at each point; at the ends it is that of the two minima."""
    _, store = straight
    row = only_pair(store)
    minima = {m["key"]: m for m in results.raw_records(store, "minima")}
    assert len(row["test_losses"]) == len(row["test_positions"]) == row["points"]
    assert (row["test_positions"][0], row["test_positions"][-1]) == (0, pytest.approx(1))
    for at, end in ((0, "a"), (-1, "b")):
        assert row["test_losses"][at] == pytest.approx(minima[row[end]]["test_loss"], rel=1e-5)
