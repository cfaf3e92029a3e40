"""`toscore export`: each format is read back by the program that it is for."""

import json
import sys

import gudhi
import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch

from tests.helpers.command import toscore
from tests.helpers.made_run import HEIGHTS, LOSSES, complete_run, run_with_loops
from workers.problems.data_sets import load_dataset
from workers.problems.networks import build
from workers.tasks.specs import DataSpec, NetworkSpec


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return complete_run(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def loops(tmp_path_factory):
    """A run with bars of index 1."""
    return run_with_loops(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """A run that was trained and optimised, for what needs true parameters and histories."""
    folder = tmp_path_factory.mktemp("real")
    file = folder / "real.yaml"
    file.write_text(
        f"name: real\nstore: {folder}\ndata: digits\nnetwork: {{name: fc, hidden: [8]}}\n"
        "minima: {count: 2, epochs: 3}\npaths: {epochs: 2, points: 5}\n"
    )
    assert toscore("run", file, "--in-process", "-q").code == 0
    return file


BARS_OF_INDEX_1 = [(0.9, 1.3), (1.2, 1.5)]


def exported(made, tmp_path, *arguments):
    said = toscore("export", getattr(made, "folder", made), "--out", tmp_path, *arguments)
    assert said.code == 0, said.err
    return said.out.split()


def test_parquet_is_read_by_pandas(made, tmp_path):
    """The default: one file a table."""
    assert len(exported(made, tmp_path)) == 5
    passes = pd.read_parquet(tmp_path / "passes.parquet")
    assert passes.set_index(["i", "j"])["height"].to_dict() == HEIGHTS
    assert not list(tmp_path.glob("*.part"))


def test_parquet_has_the_higher_bars_and_their_scores(loops, tmp_path):
    """Bars of index 1 name their simplices; a score says how far sampling can have put it off."""
    assert len(exported(loops, tmp_path)) == 6
    bars = pd.read_parquet(tmp_path / "bars.parquet")
    found = bars[bars["index"] == 1]
    assert list(zip(found.birth, found.death, strict=True)) == BARS_OF_INDEX_1
    assert [list(v) for v in found.born] == [[0, 2], [2, 3]]
    assert [list(v) for v in found.killed] == [[0, 1, 3], [1, 2, 3]]
    assert len(bars[bars.method == "elder"]) == len(LOSSES)
    scores = pd.read_parquet(tmp_path / "scores.parquet").set_index(["index", "method"])
    assert scores.to_score.to_dict() == pytest.approx(
        {
            (0, "elder"): 0.325,
            (0, "direct"): 0.325,
            (0, "quotient"): 0.325,
            (0, "simplices"): 0.325,
            (1, "simplices"): 0.2,
        }
    )
    assert scores.epsilon[1, "simplices"] == pytest.approx(1e-4)
    assert len(pd.read_parquet(tmp_path / "simplices.parquet")) == 4


def test_json_is_what_reduce_prints(loops, tmp_path):
    """The same contract, in a file, with every index."""
    (file,) = exported(loops, tmp_path, "--format", "json")
    with open(file) as stream:
        found = json.load(stream)
    assert found == json.loads(toscore("reduce", loops.folder, "--json").out)
    assert [(b["birth"], b["death"]) for b in found["barcodes"]["1"]] == BARS_OF_INDEX_1
    assert found["to_score"]["1"] == pytest.approx(0.2)


def test_npz_is_read_by_numpy(made, tmp_path):
    """Without pickles; infinite deaths are infinite."""
    (file,) = exported(made, tmp_path, "--format", "npz")
    arrays = np.load(file, allow_pickle=False)
    assert arrays["losses"].tolist() == list(LOSSES)
    deaths = dict(zip(arrays["elder_minima"], arrays["elder_bars"][:, 1], strict=True))
    assert deaths == {0: np.inf, 3: 0.8, 1: 0.7, 2: 0.5}


def test_npz_has_the_higher_bars(loops, tmp_path):
    """A row a bar, with the minima of its simplices, and the score as a number."""
    (file,) = exported(loops, tmp_path, "--format", "npz")
    arrays = np.load(file, allow_pickle=False)
    assert list(map(tuple, arrays["index_1_bars"])) == BARS_OF_INDEX_1
    assert arrays["index_1_born"].tolist() == [[0, 2], [2, 3]]
    assert arrays["index_1_killed"].tolist() == [[0, 1, 3], [1, 2, 3]]
    assert float(arrays["index_1_to_score"]) == pytest.approx(0.2)
    assert float(arrays["elder_to_score"]) == pytest.approx(0.325)


def test_gudhi_reads_its_own_format(made, tmp_path):
    """Intervals of dimension 0, one a bar, to the last digit."""
    elder, _direct = sorted(exported(made, tmp_path, "--format", "gudhi"), reverse=True)
    assert "elder" in elder
    intervals = gudhi.read_persistence_intervals_grouped_by_dimension(persistence_file=elder)
    assert sorted(map(tuple, intervals[0])) == [(0.1, np.inf), (0.15, 0.8), (0.2, 0.7), (0.3, 0.5)]


def test_gudhi_reads_the_dimensions(loops, tmp_path):
    """Bars of index 1 are intervals of dimension 1, beside those of the elder rule."""
    elder, direct = sorted(exported(loops, tmp_path, "--format", "gudhi"), reverse=True)
    read = gudhi.read_persistence_intervals_grouped_by_dimension
    assert sorted(map(tuple, read(persistence_file=elder)[1])) == BARS_OF_INDEX_1
    assert len(read(persistence_file=elder)[0]) == len(LOSSES)
    assert set(read(persistence_file=direct)) == {0}  # Algorithm 1 has no index but 0


def test_loops_that_nothing_fills_are_infinite_in_every_format(tmp_path):
    """Without its triangles index 1 has three bars that never end: inf, and null in JSON."""
    made = complete_run(tmp_path, "open", reduce={"max_index": 1})
    for name in ("parquet", "npz", "gudhi", "json"):
        exported(made, tmp_path / "out", "--format", name)
    bars = pd.read_parquet(tmp_path / "out" / "bars.parquet")
    assert bars[bars["index"] == 1].death.tolist() == [np.inf] * 3
    assert bars[bars["index"] == 1].killed.isna().all()
    arrays = np.load(tmp_path / "out" / "open.npz")
    assert arrays["index_1_killed"].tolist() == [[-1, -1, -1]] * 3
    assert np.isinf(arrays["index_1_to_score"])
    file = str(tmp_path / "out" / "open-elder.pers")
    found = gudhi.read_persistence_intervals_grouped_by_dimension(persistence_file=file)
    assert np.isinf(np.array(found[1])[:, 1]).tolist() == [True] * 3
    told = json.loads((tmp_path / "out" / "open.json").read_text())
    assert told["to_score"]["1"] is None


def test_safetensors_of_every_minimum(made, tmp_path):
    """The state dicts as they were published."""
    files = exported(made, tmp_path, "--format", "safetensors")
    assert len(files) == len(LOSSES)
    state = safetensors.torch.load_file(tmp_path / "minimum-3.safetensors")
    assert torch.equal(state["weight"], torch.full((2, 3), 3.0))


def test_the_network_at_the_peak_has_the_height_of_the_pass(real, tmp_path):
    """A point of a path, exported, loaded into the network and evaluated by a plain forward pass."""
    (point,) = exported(real, tmp_path / "out", "--path", "0,1")
    data = load_dataset(DataSpec("digits"))
    module = build(NetworkSpec("fc", (("hidden", (8,)),)), data.input_shape, data.classes)
    module.load_state_dict(safetensors.torch.load_file(point))
    with torch.no_grad():
        outputs = module(data.train_inputs).double()
    height = json.loads(toscore("reduce", real, "--json").out)["heights"][0]["height"]
    loss = float(torch.nn.functional.cross_entropy(outputs, data.train_targets))
    assert loss == pytest.approx(height, rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--format", "parket"), "did you mean parquet?"),
        (("--format", "matlab"), "choose one of parquet"),
        (("--path", "0"), "give two minima, as in --path 0,3"),
        (("--path", "0,9"), "no path between the minima 0 and 9"),
        (("--path", "0,1", "--at", "top"), "give a number from 0 to 1, or peak"),
    ],
)
def test_what_cannot_be_exported_is_one_sentence(made, tmp_path, arguments, sentence):
    """Named, with what to do, exit code 2, and no file left."""
    said = toscore("export", made.folder, "--out", tmp_path / "out", *arguments)
    assert said.code == 2 and sentence in said.err
    assert not (tmp_path / "out").exists()


def test_tensorboard_is_an_extra(made, tmp_path, monkeypatch):
    """Where the package is missing, one sentence says how to install it, and no file is left."""
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    for name in [n for n in sys.modules if n.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    said = toscore("export", made.folder, "--out", tmp_path / "out", "--format", "tensorboard")
    assert said.code == 2 and "toscore[tensorboard]" in said.err
    assert not list(tmp_path.rglob("*events*"))


def test_tensorboard_reads_the_scalars_of_a_run(real, tmp_path):
    """Its own reader finds each number of each history at its epoch; written again, none is doubled."""
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    from orchestrator import load_run

    (folder,) = exported(real, tmp_path, "--format", "tensorboard")
    run = load_run(str(real))
    histories = {f"minimum-{i}": record.history for i, record in run.minima.items()}
    histories["path-0-1"] = run.path(0, 1).history
    assert {file.parent.name for file in tmp_path.rglob("events.out.tfevents*")} == set(histories)
    for name, rows in histories.items():
        kind, *_ = name.split("-")
        events = reader.EventAccumulator(f"{folder}/{name}", size_guidance={reader.SCALARS: 0})
        events.Reload()
        tags = events.Tags()["scalars"]
        assert set(tags) == {f"{kind}/{tag}" for tag in rows[0] if tag != "epoch"}
        for tag in tags:
            told = [(event.step, event.value) for event in events.Scalars(tag)]
            wanted = [(row["epoch"], row[tag.split("/")[1]]) for row in rows]
            # Event files hold float32.
            np.testing.assert_array_equal(np.float32(told), np.float32(wanted), tag)
    exported(real, tmp_path, "--format", "tensorboard")
    assert len(list(tmp_path.rglob("events.out.tfevents*"))) == len(histories)
