"""Which device and strategy computed a record, and a word where they differ."""

from dataclasses import replace

from orchestrator.endings import warn_of_devices
from orchestrator.runs.stored_run import open_run
from tests.helpers.command import toscore
from tests.helpers.made_run import complete_run

RUN_FILE = """
name: a
store: {folder}
data: digits
network: {{name: fc, hidden: [2]}}
minima: {{count: 2, epochs: 1}}
paths: {{start: line, epochs: 1, points: 3}}
"""


def test_every_record_names_its_device_and_strategy(tmp_path):
    """Years later it is known which of the results a CPU made and which a GPU of which model."""
    file = tmp_path / "a.yaml"
    file.write_text(RUN_FILE.format(folder=tmp_path))
    assert toscore("run", file, "--in-process", "-q").code == 0
    landscape = open_run(str(tmp_path / "a")).landscape()
    records = [*landscape.minima.values(), *landscape.passes.values()]
    assert len(records) == 3
    assert {record.device for record in records} == {"cpu"}
    assert all(record.strategy for record in records)


def test_results_of_several_kinds_of_devices_are_told(tmp_path, capsys):
    """Equal tasks may differ in their last bits there, which one device never does."""
    landscape = complete_run(tmp_path)
    found = open_run(str(landscape.folder)).landscape()
    warn_of_devices(found)
    assert not capsys.readouterr().err
    for number, key in enumerate(found.minima):
        named = replace(found.minima[key], device=("A100", "T4")[number % 2])
        found.minima[key] = named
    warn_of_devices(found)
    assert "2 kinds of devices (A100, T4)" in capsys.readouterr().err
