"""A run that is given by its folder is acted on there, whatever its file says."""

import shutil

import pytest

from orchestrator.scheduling.executor import InProcess
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

    command = command_line(
        "run", "my run.yaml", overrides=["a=[1, 2]"], address=None, in_process=True, log="x y"
    )
    assert command == "toscore run 'my run.yaml' --set 'a=[1, 2]' --in-process --log 'x y'"


def test_a_store_that_moved_half_way_goes_on_with_the_same_bits(done, tmp_path, monkeypatch):
    """Interrupted after its minima, moved below another folder and renamed: the same objects in the end."""
    poll = InProcess.poll

    def interrupted(self, timeout):
        if any(type(task).__name__ == "OptimizePath" for pack in self._packs for task in pack):
            raise KeyboardInterrupt
        return poll(self, timeout)

    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(InProcess, "poll", interrupted)
        assert toscore("run", done / "run.yaml", "--in-process", "--quiet").code == 130
    moved = tmp_path / "other" / "prefix" / "second"
    moved.parent.mkdir(parents=True)
    (half,) = tmp_path.rglob("runs/first")
    half.rename(moved)
    assert [p.name for p in moved.glob("paths/*")] == []
    there = ("--set", f"store={moved.parent}", "--set", "name=second")
    said = toscore("run", done / "run.yaml", *there, "--in-process", "--quiet")
    assert said.code == 0, said.err
    for kind in ("minima", "paths"):
        names = [
            {p.name for p in run.glob(f"{kind}/*")} for run in (moved, done / "runs" / "first")
        ]
        assert names[0] == names[1] != set()
