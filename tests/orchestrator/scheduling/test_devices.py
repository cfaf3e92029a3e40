"""Which device and strategy computed a record, and a warning if devices differ."""

from dataclasses import replace

from orchestrator.endings import warn_of_devices
from orchestrator.runs.stored_run import open_run
from tests.helpers.made_run import complete_run
from tests.helpers.run_files import finished_run, write_run_file

SETTINGS = {
    "data": "digits",
    "network": {"name": "fc", "hidden": [2]},
    "minima": {"count": 2, "epochs": 1},
    "paths": {"start": "line", "epochs": 1, "points": 3},
}


def test_every_record_names_its_device_and_strategy(tmp_path):
    """The record of each minimum and path names the device and the evaluation strategy that computed it."""
    run = finished_run(write_run_file(tmp_path, "a", SETTINGS))
    landscape = open_run(str(run)).landscape()
    records = [*landscape.minima.values(), *landscape.passes.values()]
    assert len(records) == 3
    assert {record.device for record in records} == {"cpu"}
    assert all(record.strategy for record in records)


def test_results_of_several_kinds_of_devices_are_told(tmp_path, capsys):
    """A warning names the devices if there are several kinds, and there is none for one kind."""
    landscape = complete_run(tmp_path)
    found = open_run(str(landscape.folder)).landscape()
    warn_of_devices(found)
    assert not capsys.readouterr().err
    for number, key in enumerate(found.minima):
        named = replace(found.minima[key], device=("A100", "T4")[number % 2])
        found.minima[key] = named
    warn_of_devices(found)
    assert "2 kinds of devices (A100, T4)" in capsys.readouterr().err
