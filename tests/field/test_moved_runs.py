"""A run that is given by its folder is acted on there, whatever its file says."""

import shutil

import pytest

from tests.helpers.command import toscore
from workers.storage.open_objects import open_objects
from workers.storage.run_store import Store

RUN = """
name: first
store: runs
data: {name: digits, subset: 60}
network: {name: fc, hidden: [3]}
minima: {count: 2, epochs: 1}
paths: {epochs: 2, points: 4, start: line}
"""


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A complete run of two minima."""
    folder = tmp_path_factory.mktemp("moved")
    (folder / "run.yaml").write_text(RUN)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        said = toscore("run", "run.yaml", "--in-process", "--quiet")
    assert said.code == 0, said.err
    return folder


def failed(store, key):
    store.publish_failure(key, {"what": "path 0–1", "kind": "bug", "reason": "for a test"}, term=1)


def test_retry_acts_on_the_run_that_is_named(done, tmp_path, monkeypatch):
    """Moved and renamed, from another folder: the path is made again there, and nothing beside it."""
    moved = tmp_path / "elsewhere" / "second name"
    shutil.copytree(done / "runs" / "first", moved)
    for folder in ("records/pairs", "paths"):
        shutil.rmtree(moved / folder)
    store = Store(open_objects(str(moved)))
    from orchestrator.runs.stored_run import open_run

    failed(store, open_run(str(moved)).plan.pair_key((0, 1)))
    monkeypatch.chdir(tmp_path)
    said = toscore("retry", "elsewhere/second name", "--in-process")
    assert said.code == 0, said.err
    assert [p.name for p in tmp_path.iterdir()] == ["elsewhere"]
    assert toscore("status", moved).out.splitlines()[0].endswith(": complete")


def test_old_failures_do_not_fail_a_complete_run(done, monkeypatch):
    """Failures of settings that the run file does not have any more leave the exit code 0."""
    monkeypatch.chdir(done)
    failed(Store(open_objects("runs/first")), "f" * 32)
    said = toscore("run", "run.yaml", "--in-process", "--quiet")
    assert (said.code, said.err) == (0, "")


def test_the_command_that_goes_on_can_be_pasted(done, monkeypatch):
    """It is quoted, and keeps every option that matters."""
    from orchestrator.cli.app import command_line

    told = command_line(
        "run", "my run.yaml", overrides=["a=[1, 2]"], address=None, in_process=True, log="x y"
    )
    assert told == "toscore run 'my run.yaml' --set 'a=[1, 2]' --in-process --log 'x y'"
