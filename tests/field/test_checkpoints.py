"""Checkpoints as training code writes them are read, or refused by a sentence that names their kind."""

import argparse
import gzip
import json
import zipfile
from datetime import date

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from orchestrator.planning.fingerprints import checkpoint_contents
from orchestrator.run_file.errors import BadRunFile
from orchestrator.run_file.reading import load, parse
from workers.problems.checkpoint_files import read_checkpoint
from workers.problems.checkpoints import check_state_dict
from workers.problems.user_code import BadReference


@pytest.fixture
def module():
    return nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))


def prefixed(state, prefix):
    return {f"{prefix}{name}": value for name, value in state.items()}


SAVED = {
    "DataParallel": lambda s: prefixed(s, "module."),
    "compiled": lambda s: {"model": prefixed(s, "module._orig_mod."), "config": {"lr": 0.1}},
    "Lightning": lambda s: {"state_dict": prefixed(s, "model."), "epoch": 3, "callbacks": {}},
    "arguments": lambda s: {"model_state_dict": s, "args": argparse.Namespace(lr=0.1, name="x")},
    "numpy scalars": lambda s: {"net": s, "loss": np.float64(0.1), "step": np.int64(3)},
    "params in params": lambda s: {"params": {"state_dict": s}, "optimizer": {"state": {}}},
    "sparse": lambda s: {name: value.to_sparse() for name, value in s.items()},
    "half": lambda s: {name: value.half() for name, value in s.items()},
    "bfloat16": lambda s: {name: value.bfloat16() for name, value in s.items()},
    "an unknown prefix": lambda s: prefixed(s, "base_model.encoder."),
    "nested deeply": lambda s: {"checkpoint": {"best": {"weights": s}}, "optimizer": {"state": s}},
    "no known name": lambda s: {"best": s, "last": {name: value * 0 for name, value in s.items()}},
    "numpy arrays": lambda s: {name: value.numpy() for name, value in s.items()},
    "two": lambda s: {"model": s, "ema": {name: value * 0 for name, value in s.items()}},
}


@pytest.mark.parametrize("kind", SAVED)
def test_what_is_read(tmp_path, module, kind):
    """The weights are read under the network's names; notes report every choice and conversion."""
    state = module.state_dict()
    torch.save(SAVED[kind](state), tmp_path / "a.pt")
    checkpoint = read_checkpoint(str(tmp_path / "a.pt"), module)
    check_state_dict("a.pt", checkpoint.state, module)
    tolerance = 0.01 if kind in ("half", "bfloat16") else 0.0
    for name, value in state.items():
        assert torch.allclose(checkpoint.state[name], value, rtol=tolerance, atol=tolerance)
    notes = " ".join(checkpoint.notes)
    expected = {
        "DataParallel": "module.",
        "compiled": "_orig_mod.",
        "half": "float16 is read as float32",
        "bfloat16": "bfloat16 is read as float32",
        "an unknown prefix": "base_model.encoder.",
        "no known name": "best is taken, and not last",
        "two": "model is taken, and not ema",
    }
    assert expected.get(kind, "") in notes


def test_a_prefix_of_the_network_stays(tmp_path):
    """Where the network's own names begin with model. nothing is left out."""
    module = nn.ModuleDict({"model": nn.Linear(2, 1)})
    torch.save(module.state_dict(), tmp_path / "a.pt")
    assert (
        read_checkpoint(str(tmp_path / "a.pt"), module).state.keys() == module.state_dict().keys()
    )


def test_shards(tmp_path, module):
    """An index is read as the checkpoint in its shards, and its content is that of all of them."""
    state = module.state_dict()
    names = list(state)
    files = {"m-1.safetensors": names[:2], "m-2.safetensors": names[2:]}
    for file, part in files.items():
        safetensors.torch.save_file({name: state[name] for name in part}, tmp_path / file)
    index = tmp_path / "m.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {n: f for f, part in files.items() for n in part}}))
    read = read_checkpoint(str(index), module).state
    assert all(torch.equal(read[name], state[name]) for name in names)
    run = parse(
        {"name": "n", "data": "digits", "network": "fc"}
        | {"minima": {"from": [str(index)], "count": 1}}
    )
    before = checkpoint_contents(run)
    safetensors.torch.save_file({names[2]: state[names[2]] + 1}, tmp_path / "m-2.safetensors")
    assert checkpoint_contents(run) != before


def archive(file):
    np.savez(file, weight=np.zeros(3))


def zipped(file):
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/readme", "hello")


def script(file):
    torch.jit.save(torch.jit.script(nn.Linear(2, 1)), file)


NOT_WEIGHTS = {
    "pointer.pt": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git lfs pull"),
    "page.pt": (b"<!DOCTYPE html><html></html>", "is an HTML page"),
    "config.pt": (b'{"hidden": 3}', "is JSON and no weights"),
    "empty.pt": (b"", "is empty"),
    "m.index.json": (b"[]", "lists no shards"),
    "a.npz": (archive, "is a numpy archive"),
    "jit.pt": (script, "is a TorchScript program"),
    "lora.pt": (lambda f: torch.save({"q.lora_A.weight": torch.zeros(2)}, f), "LoRA layers alone"),
    "meta.pt": (lambda f: torch.save(nn.Linear(3, 2, device="meta").state_dict(), f), "no numbers"),
    "model.gguf": (b"GGUF\3\0\0\0" + bytes(50), "is in the GGUF format"),
    "model.h5": (b"\x89HDF\r\n\x1a\n" + bytes(50), "is an HDF5 file"),
    "denied.pt": (
        b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>",
        "is an XML page",
    ),
    "model.pt.gz": (gzip.compress(b"weights"), "is compressed"),
    "files.zip": (zipped, "is a zip archive without weights"),
    "notes.txt": (b"hello", "is no checkpoint that torch.save or safetensors wrote"),
    "date.pt": (
        lambda f: torch.save({"x": date(2020, 1, 1)}, f),
        r"more than weights \(datetime.date\)",
    ),
    "other.pt": (lambda f: torch.save({"epoch": 3, "lr": 0.1}, f), "holds the keys epoch, lr"),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", NOT_WEIGHTS)
def test_what_is_no_checkpoint_is_called_what_it_is(tmp_path, module, name):
    """One sentence names the kind of the file and what to do."""
    content, says = NOT_WEIGHTS[name]
    file = tmp_path / name
    file.write_bytes(content) if isinstance(content, bytes) else content(str(file))
    with pytest.raises(BadReference, match=says) as refused:
        read_checkpoint(str(file), module)
    assert "\n" not in str(refused.value) and name in str(refused.value)


def test_files_under_another_name(tmp_path, module):
    """The contents decide what a file is, not the end of its name."""
    safetensors.torch.save_file(module.state_dict(), tmp_path / "weights.bin")
    torch.save(module.state_dict(), tmp_path / "weights.safetensors")
    for name in ("weights.bin", "weights.safetensors"):
        assert len(read_checkpoint(str(tmp_path / name), module).state) == 4


@pytest.mark.parametrize(
    ("named", "says"),
    [
        ("https://example.com/a.pt", "download it and name the file"),
        ("circle.pt", "Too many levels of symbolic links"),
        ("m.safetensors.index.json", r"with the shard .*gone\.safetensors, which cannot be read"),
    ],
)
def test_files_that_are_not_there(tmp_path, named, says):
    """A URL, a circle of links, an index without its shards: one sentence names what is missing."""
    (tmp_path / "circle.pt").symlink_to("circle.pt")
    index = {"weight_map": {"weight": "gone.safetensors"}}
    (tmp_path / "m.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "a.yaml").write_text(
        f'name: n\ndata: digits\nnetwork: fc\nminima: {{from: ["{named}"], count: 1}}\n'
    )
    with pytest.raises(BadRunFile, match=says):
        checkpoint_contents(load(tmp_path / "a.yaml"))
