"""Run files with random mistakes: `toscore plan` ends with exit code 0 or 2 and one sentence."""

import random

import pytest
import yaml

from orchestrator.run_file.reading import json_schema
from tests.helpers.command import toscore

GOOD = {
    "name": "n",
    "data": {"name": "digits", "subset": 40},
    "network": {"name": "fc", "hidden": [2]},
    "minima": {"count": 3, "epochs": 1},
    "paths": {"epochs": 1, "points": 4},
}

JUNK = [
    None, True, False, 0, 1, -1, 2, 3.5, -0.0, 1e-300, 1e300, float("nan"), float("inf"), 10**30, 2**31,
    "", " ", "x", "yes", "1e3", "name", "módulo:función", "os:getcwd", "a\0b", "~", "$NO/x", "s3://", "../x",
    [], [1], [[0, 1]], [["a", 2]], [[]], [None], [1, 2, 3], {}, {"name": "adam"}, {"name": 3}, {"x": {}},
    {"every": 1, "criterion": "loss"}, {"name": "paper", "m1": 1, "m2": 2, "lr_max": 1, "lr_min": 0},
]  # fmt: skip


def keys_of(schema, node, depth=0):
    """Paths of keys that the schema allows."""
    for option in (node, *node.get("anyOf", ()), *node.get("allOf", ())):
        named = option.get("$ref", "").rsplit("/", 1)[-1]
        known = schema["$defs"][named] if named else option
        for key, inner in known.get("properties", {}).items():
            yield (key,)
            if depth < 3:
                yield from ((key, *rest) for rest in keys_of(schema, inner, depth + 1))


def mistaken(draw, keys):
    """A good run file after one to three changes."""
    values = yaml.safe_load(yaml.safe_dump(GOOD))
    for _ in range(draw.randint(1, 3)):
        *parents, last = draw.choice(keys)
        here = values
        for parent in parents:
            inner = here.get(parent)
            here[parent] = inner if isinstance(inner, dict) else {}
            here = here[parent]
        here[last if draw.random() < 0.95 else last[:-1] + "q"] = draw.choice(JUNK)
    return values


def check(folder, monkeypatch, seeds):
    monkeypatch.chdir(folder)
    keys = sorted(set(keys_of(json_schema(), json_schema())))
    file = folder / "run.yaml"
    for seed in seeds:
        values = mistaken(random.Random(seed), keys)
        file.write_text(yaml.safe_dump(values, allow_unicode=True), "utf-8")
        said = toscore("plan", file, "--no-sample")
        assert said.code in (0, 2), (seed, values, said.err)
        assert said.code == 0 or len(said.err.splitlines()) == 1, (seed, values, said.err)
        assert [path.name for path in folder.iterdir()] == ["run.yaml"]


def test_run_files_with_mistakes(tmp_path, monkeypatch):
    """Thirty of them."""
    check(tmp_path, monkeypatch, range(30))


@pytest.mark.slow
def test_many_run_files_with_mistakes(tmp_path, monkeypatch):
    """Two thousand of them."""
    check(tmp_path, monkeypatch, range(2000))


TEXTS = [
    "name: n",
    "{",
    "[",
    "- ",
    "&a ",
    "*a",
    "<<: ",
    ": ",
    "\t",
    "  ",
    "\n",
    "'",
    '"',
    "#",
    "|",
    ">",
    "? ",
]
TEXTS += [
    "!!set ",
    "!x ",
    "%YAML 1.2\n",
    "---\n",
    "...\n",
    "\0",
    "\x85",
    "\ufeff",
    "\ud800",
    "é",
    "0x",
    "1_0",
    "=",
    "~",
]


def check_texts(folder, seeds):
    file = folder / "run.yaml"
    for seed in seeds:
        draw = random.Random(seed)
        text = "".join(draw.choice(TEXTS) for _ in range(draw.randint(1, 12)))
        file.write_bytes(text.encode("utf-8", "surrogatepass"))
        said = toscore("plan", file, "--no-sample")
        assert (said.code, len(said.err.splitlines())) == (2, 1), (seed, text, said.err)


def test_texts_that_are_hardly_yaml(tmp_path):
    """A hundred of them: each is refused in one sentence."""
    check_texts(tmp_path, range(100))


@pytest.mark.slow
def test_many_texts_that_are_hardly_yaml(tmp_path):
    """Two thousand of them."""
    check_texts(tmp_path, range(2000))
