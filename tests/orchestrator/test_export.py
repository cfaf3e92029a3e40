"""`toscore export`: each format is read back by the program that it is for."""

import json

import gudhi
import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch

from tests.helpers.command import toscore
from tests.helpers.made_run import HEIGHTS, LOSSES, complete_run
from workers.data import load_dataset
from workers.networks import build
from workers.specs import DataSpec, NetworkSpec


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return complete_run(tmp_path_factory.mktemp("runs"))


def exported(made, tmp_path, *arguments):
    said = toscore("export", made.folder, "--out", tmp_path, *arguments)
    assert said.code == 0, said.err
    return said.out.split()


def test_parquet_is_read_by_pandas(made, tmp_path):
    """The default: one file a table."""
    assert len(exported(made, tmp_path)) == 4
    passes = pd.read_parquet(tmp_path / "passes.parquet")
    assert passes.set_index(["i", "j"])["height"].to_dict() == HEIGHTS
    assert not list(tmp_path.glob("*.part"))


def test_json_is_what_reduce_prints(made, tmp_path):
    """The same contract, in a file."""
    (file,) = exported(made, tmp_path, "--format", "json")
    with open(file) as stream:
        assert json.load(stream) == json.loads(toscore("reduce", made.folder, "--json").out)


def test_npz_is_read_by_numpy(made, tmp_path):
    """Without pickles; infinite deaths are infinite."""
    (file,) = exported(made, tmp_path, "--format", "npz")
    arrays = np.load(file, allow_pickle=False)
    assert arrays["losses"].tolist() == list(LOSSES)
    deaths = dict(zip(arrays["elder_minima"], arrays["elder_bars"][:, 1], strict=True))
    assert deaths == {0: np.inf, 3: 0.8, 1: 0.7, 2: 0.5}


def test_gudhi_reads_its_own_format(made, tmp_path):
    """Intervals of dimension 0, one a bar, to the last digit."""
    elder, _direct = sorted(exported(made, tmp_path, "--format", "gudhi"), reverse=True)
    assert "elder" in elder
    intervals = gudhi.read_persistence_intervals_grouped_by_dimension(persistence_file=elder)
    assert sorted(map(tuple, intervals[0])) == [(0.1, np.inf), (0.15, 0.8), (0.2, 0.7), (0.3, 0.5)]


def test_safetensors_of_every_minimum(made, tmp_path):
    """The state dicts as they were published."""
    files = exported(made, tmp_path, "--format", "safetensors")
    assert len(files) == len(LOSSES)
    state = safetensors.torch.load_file(tmp_path / "minimum-3.safetensors")
    assert torch.equal(state["weight"], torch.full((2, 3), 3.0))


def test_the_network_at_the_peak_has_the_height_of_the_pass(tmp_path):
    """A point of a path, exported, loaded into the network and evaluated by a plain forward pass."""
    file = tmp_path / "real.yaml"
    file.write_text(
        f"name: real\nstore: {tmp_path}\ndata: digits\nnetwork: {{name: fc, hidden: [8]}}\n"
        "minima: {count: 2, epochs: 3}\npaths: {epochs: 2, points: 5}\n"
    )
    assert toscore("run", file, "--in-process", "-q").code == 0
    (point,) = exported(
        type("made", (), {"folder": tmp_path / "real"}), tmp_path / "out", "--path", "0,1"
    )
    data = load_dataset(DataSpec("digits"))
    module = build(NetworkSpec("fc", (("hidden", (8,)),)), data.input_shape, data.classes)
    module.load_state_dict(safetensors.torch.load_file(point))
    with torch.no_grad():
        outputs = module(data.train_inputs).double()
    height = json.loads(toscore("reduce", file, "--json").out)["heights"][0]["height"]
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


def test_tensorboard_is_an_extra(made, tmp_path):
    """Written where the package is there, and one sentence where it is not."""
    said = toscore("export", made.folder, "--out", tmp_path, "--format", "tensorboard")
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        assert said.code == 2 and "toscore[tensorboard]" in said.err
    else:
        assert said.code == 0 and list(tmp_path.rglob("events.out.tfevents*"))
