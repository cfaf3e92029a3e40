"""The structured log: what a program that collects logs can rely on."""

import json
from datetime import UTC, datetime

import pytest

from tests.helpers.command import toscore
from tests.helpers.run_files import write_run_file

SETTINGS = {
    "data": "digits",
    "network": {"name": "fc", "hidden": [4]},
    "minima": {"count": 3, "epochs": 1},
    "paths": {"bezier_epochs": 2, "epochs": 2, "points": 5},
}


@pytest.fixture
def file(tmp_path):
    return write_run_file(tmp_path, "a", SETTINGS)


def test_a_line_an_event(file, tmp_path):
    """Each line is an object with time, run and event; each task is started and done once, and says
    where, and which attempt that was; a second run appends."""
    log = tmp_path / "log.jsonl"
    said = toscore("run", file, "--in-process", "--log", log)
    assert said.code == 0, said.err
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert {line["run"] for line in lines} == {"a"}
    assert {line["lease_term"] for line in lines} == {1}
    times = [datetime.fromisoformat(line["time"]) for line in lines]
    assert times == sorted(times) and times[0].tzinfo == UTC
    assert [lines[0]["event"], lines[-1]["event"]] == ["RunStarted", "RunFinished"]
    for event in ("TaskStarted", "TaskCompleted"):
        of_tasks = [line for line in lines if line["event"] == event]
        assert len({line["key"] for line in of_tasks}) == len(of_tasks) == 6
        assert {(line["worker"], line["attempt"]) for line in of_tasks} == {("local", 1)}
    assert toscore("run", file, "--in-process", "--log", log).code == 0
    again = [json.loads(line) for line in log.read_text().splitlines()][len(lines) :]
    assert [line["event"] for line in again] == ["RunStarted", "RunFinished"]
    assert {line["lease_term"] for line in again} == {2}


def test_on_standard_error(file):
    """`--log -` is for collectors: all of standard error is JSON lines."""
    said = toscore("run", file, "--in-process", "--log", "-")
    assert said.code == 0
    assert [json.loads(line)["event"] for line in said.err.splitlines()][-1] == "RunFinished"


def test_no_place_for_it(file, tmp_path):
    """A log that cannot be written is one sentence."""
    said = toscore("run", file, "--in-process", "--log", tmp_path / "nowhere" / "log")
    assert said.code == 2 and "--log" in said.err and len(said.err.splitlines()) == 1
