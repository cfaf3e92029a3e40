"""What is wrong with a run file is said in one sentence, with exit code 2, and nothing is written."""

import textwrap

import pytest
import safetensors.torch
import torch

from orchestrator.run_file.reading import load
from tests.helpers.command import toscore

GOOD = {"name": "n", "data": "digits", "network": "fc"}

BAD = {
    "unknown key": ({"paths": {"epoch": 3}}, "paths.epoch is not a key", "paths.epochs"),
    "unknown key at the top": ({"path": {}}, "path is not a key", "paths"),
    "unknown training key": ({"minima": {"epoch": 3}}, "minima.epoch is not", "minima.epochs"),
    "wrong type": ({"minima": {"epochs": "many"}}, "minima.epochs", "'many'"),
    "zero points": ({"paths": {"points": 0}}, "paths.points is 0", "3 or more"),
    "one minimum": ({"minima": {"count": 1}}, "at least 2 minima", "minima.count"),
    "fewer than none": ({"minima": {"count": -2}}, "minima.count is -2", "0 or more"),
    "a word for a number": ({"minima": {"count": "x"}}, "minima.count is 'x'", "a whole number."),
    "missing checkpoint": ({"minima": {"from": ["no.pt", "no2.pt"]}}, "no.pt", "cannot be read"),
    "unknown network": ({"network": "fcc"}, "network.name is 'fcc'", "did you mean fc?"),
    "unknown network option": ({"network": {"name": "fc", "hiden": [3]}}, "hiden", "hidden"),
    "a word for widths": (
        {"network": {"name": "fc", "hidden": "eight"}},
        "network.hidden is 'eight'",
        "as in [32, 32]",
    ),
    "no channels": (
        {"network": {"name": "cnn2", "channels": 0}},
        "network.channels is 0",
        "a whole number above 0",
    ),
    "unknown data": ({"data": "digit"}, "data.name is 'digit'", "digits"),
    "missing key": ({"network": None}, "network", "name"),
    "NaN learning rate": (
        {"paths": {"optimizer": {"lr": float("nan")}}},
        "paths.optimizer.lr",
        "nan",
    ),
    "negative learning rate": (
        {"minima": {"optimizer": {"lr": -1.0}}},
        "optimizer.lr is -1",
        "above 0",
    ),
    "schedule of the wrong keys": (
        {"paths": {"schedule": {"name": "paper", "m1": 1, "m2": 2, "lr_max": 1.0}}},
        "schedule.lr_min is missing",
        "paper",
    ),
    "no such module": ({"network": "nosuchmodule:build"}, "nosuchmodule", "no module"),
    "no such pair": ({"pairs": {"rule": "list", "pairs": [[0, 99]]}}, "(0, 99)", "0 to 9"),
    "bad name": ({"name": "a/b"}, "name is 'a/b'", "letters, digits"),
    "unknown precision": ({"resources": {"precision": "fp8"}}, "resources.precision", "'bf16'"),
    "unwritable store": ({"store": "/proc/no"}, "store", "/proc/no"),
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder, values):
    import yaml

    file = folder / "run.yaml"
    file.write_text(yaml.safe_dump({k: v for k, v in values.items() if v is not None}))
    return file


@pytest.mark.parametrize("case", BAD)
def test_bad_run_file(folder, case):
    """One sentence names the key and what is allowed; exit code 2; nothing is written."""
    values, names, hint = BAD[case]
    file = write(folder, GOOD | values)
    said = toscore("run", file)
    assert said.code == 2
    (sentence,) = said.err.strip().splitlines()
    assert names in sentence and hint in sentence
    assert sentence.endswith((".", "?"))
    assert [p.name for p in folder.iterdir()] == ["run.yaml"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="of a machine without a GPU")
def test_precision_without_a_gpu(folder):
    """What this machine's device cannot do is refused before anything is written."""
    file = write(folder, GOOD | {"resources": {"precision": "tf32"}})
    said = toscore("run", file)
    assert said.code == 2 and [p.name for p in folder.iterdir()] == ["run.yaml"]
    assert said.err.startswith("toscore: resources.precision is 'tf32', which needs a CUDA GPU")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("name: [", "not valid YAML"),
        ("name: a\n  data: b\n", "in line 2, column 7"),
        ("- a\n- b", "holds a list"),
        ("", "is empty"),
        ("name: a\nname: b\n", "appears twice"),
    ],
)
def test_not_a_run_file(folder, text, names):
    """What is no mapping of keys is refused as a whole."""
    file = folder / "run.yaml"
    file.write_text(text)
    said = toscore("run", file)
    assert (said.code, len(said.err.strip().splitlines())) == (2, 1)
    assert names in said.err


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("mine.py:load", "write it as Python imports it, mine:load"),
        ("code/mine:load", "code.mine:load"),
    ],
)
def test_a_file_for_a_module(folder, reference, says):
    """`module:callable` takes the name of a module; a file's name is answered with it."""
    file = folder / "a.yaml"
    file.write_text(f'name: a\ndata: {{name: "{reference}"}}\nnetwork: fc\n')
    said = toscore("plan", file, "--no-sample")
    assert said.code == 2 and says in said.err


def test_a_folder_for_a_run_file(folder):
    """The sentence says how the run in a folder is continued."""
    said = toscore("run", folder)
    assert said.code == 2 and f"`toscore retry {folder}` continues" in said.err


def test_missing_run_file(folder):
    """A path that leads nowhere is named."""
    said = toscore("run", folder / "none.yaml")
    assert said.code == 2 and "none.yaml" in said.err


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda s: s.pop("1.weight"), "has no 1.weight"),
        (lambda s: s.update({"1.weight": s["1.weight"][:, :3].contiguous()}), "1.weight of shape"),
        (lambda s: s.update({"5.bias": s["5.bias"].double()}), "5.bias of torch.float64"),
        (lambda s: s.update({"7.bias": torch.zeros(3)}), "has 7.bias"),
    ],
)
def test_checkpoint_that_does_not_fit(folder, change, names):
    """The first name, shape or dtype that differs from the network's is named."""
    from workers.problems.networks import build
    from workers.tasks.specs import NetworkSpec

    state = dict(build(NetworkSpec("fc"), (1, 8, 8), 10).state_dict())
    safetensors.torch.save_file(state, folder / "good.safetensors")
    change(state)
    safetensors.torch.save_file(state, folder / "bad.safetensors")
    file = write(folder, GOOD | {"minima": {"from": ["good.safetensors", "bad.safetensors"]}})
    said = toscore("run", file)
    assert said.code == 2
    assert names in said.err and "bad.safetensors" in said.err
    assert not (folder / "runs").exists()


def test_a_pickle_is_not_run(folder):
    """A checkpoint that would execute code when loaded is refused, and its code does not run."""
    import pickle

    class Trap:
        def __reduce__(self):
            return (open, (str(folder / "sprung"), "w"))

    (folder / "trap.pt").write_bytes(pickle.dumps(Trap()))
    file = write(folder, GOOD | {"minima": {"from": ["trap.pt", "trap.pt"]}})
    said = toscore("run", file)
    assert said.code == 2 and "trap.pt" in said.err
    assert not (folder / "sprung").exists()


def test_defaults_make_three_lines_a_run(folder):
    """name, data and network are enough; every other key has a default."""
    run = load(write(folder, GOOD))
    assert (run.minima.total, run.paths.points, run.pairs.rule) == (10, 19, "all")
    assert run.location == "runs/n"


def test_overrides(folder):
    """--set reaches nested keys, reads YAML values, and opens a name into a mapping."""
    run = load(
        write(folder, GOOD),
        ["paths.epochs=7", "minima.optimizer.lr=1e-3", "network.hidden=[8, 8]"],
    )
    assert run.paths.epochs == 7
    assert run.minima.training.optimizer.lr == 1e-3
    assert run.network.canonical() == {"name": "fc", "hidden": [8, 8]}


@pytest.mark.parametrize("text", ["paths.epochs", "=3", "name.x.y=[1"])
def test_bad_override(folder, text):
    """An override that is not KEY=VALUE is refused by name."""
    said = toscore("run", write(folder, GOOD), "--set", text)
    assert said.code == 2 and len(said.err.strip().splitlines()) == 1


def test_the_whole_contract_parses(folder):
    """The run file of the documentation, with every group of keys, is valid."""
    file = folder / "full.yaml"
    file.write_text(
        textwrap.dedent(
            """
            name: mnist-fc2
            seed: 0
            store: runs
            data: {name: mnist5k}
            network: {name: fc, hidden: [32, 32]}
            minima:
              count: 10
              epochs: 60
              batch_size: 256
              optimizer: {name: adam, lr: 1.0e-3}
              schedule: {name: cyclic, lr_min: 1.0e-4, lr_max: 1.0e-2, period: 10}
            paths:
              points: 19
              start: line
              force: paper
              epochs: 100
              batch_size: 256
              optimizer: {name: sgd, lr: 0.05}
              schedule: {name: paper, m1: 270, m2: 300, lr_max: 2.0e-3, lr_min: 1.25e-4}
              l2: 1.0e-5
              insertion: {every: 25, criterion: distance, threshold: 1.2}
            pairs: {rule: all}
            reduce: {max_index: 0, heights: adaptive}
            resources: {workers: auto, gpus_per_worker: auto, checkpoint_seconds: 60}
            """
        )
    )
    run = load(file)
    assert run.paths.force == "paper" and run.minima.training.schedule.name == "cyclic"


def test_the_schema_describes_the_contract():
    """`toscore schema` is a JSON Schema that accepts a good file and refuses an unknown key."""
    import json

    import jsonschema

    schema = json.loads(toscore("schema").out)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    assert validator.is_valid({**GOOD, "minima": {"epochs": 3, "from": ["a.pt"]}})
    assert not validator.is_valid({**GOOD, "nonsense": 1})
    assert not validator.is_valid({**GOOD, "minima": {"epoch": 3}})
