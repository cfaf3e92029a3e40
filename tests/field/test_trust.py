"""Only the user names code to run. A store, which others can write to, never does."""

import json

import pytest

from tests.helpers.command import toscore
from tests.helpers.made_run import complete_run

TRAP = "import pathlib\n\ndef load(): pathlib.Path('sprung').touch()\n"


@pytest.fixture
def trapped(tmp_path, monkeypatch):
    """A run whose stored configuration names a function of the current folder as its data."""
    made = complete_run(tmp_path, "digits")
    config = made.store.latest_config()
    config["run_file"]["data"] = {"name": "trap:load"}
    made.store.publish_config(config, term=2)
    (tmp_path / "trap.py").write_text(TRAP)
    monkeypatch.chdir(tmp_path)
    return made


@pytest.mark.parametrize(
    "command",
    [
        ["verify"],
        ["retry", "--in-process"],
        ["export", "--path", "0,1"],
    ],
)
def test_what_the_store_names_is_not_run(trapped, command):
    """verify, retry and export refuse in one sentence, and the function is not called."""
    name, *options = command
    said = toscore(name, trapped.folder, *options)
    assert said.code == 2 and "names code to run, trap:load" in said.err
    assert "--trust-code" in said.err and len(said.err.splitlines()) == 1
    assert not (trapped.folder.parent / "sprung").exists()


def test_on_request_it_is(trapped):
    """--trust-code runs what the store names; so does a run file that names the same."""
    assert "names code" not in toscore("verify", trapped.folder, "--trust-code").err
    assert (trapped.folder.parent / "sprung").exists()
    file = trapped.folder.parent / "mine.yaml"
    run = trapped.plan.run.model_dump(mode="json", by_alias=True)
    values = {"name": "digits", "store": str(trapped.folder.parent), "network": run["network"]}
    file.write_text(json.dumps({**values, "data": "trap:load"}))
    said = toscore("verify", file)
    assert "names code" not in said.err


@pytest.mark.parametrize("command", ["status", "reduce"])
def test_reading_needs_no_code(trapped, command):
    """`status` and `reduce` need no --trust-code."""
    assert toscore(command, trapped.folder).code == 0
