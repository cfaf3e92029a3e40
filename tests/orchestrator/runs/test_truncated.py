"""A store in which one object is cut off, as a full disk or a lost machine leaves it: the run goes on."""

import json
import shutil

import pytest

from tests.helpers import results
from tests.helpers.command import toscore

SETTINGS = {
    "name": "a",
    "data": {"name": "digits", "subset": 100},
    "network": {"name": "fc", "hidden": [4]},
    "minima": {"count": 3, "epochs": 2, "polish": "off"},
    "paths": {"start": "line", "epochs": 3, "points": 4, "force": "paper"},
}


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    folder = tmp_path_factory.mktemp("complete")
    assert toscore("run", write(folder), "--in-process").code == 0
    return folder / "runs" / "a"


def write(folder):
    file = folder / "a.yaml"
    file.write_text(json.dumps({**SETTINGS, "store": str(folder / "runs")}))
    return file


def goes_on(complete, folder, *names, share):
    """Cut objects off in a copy of the run; commands end with a sentence, and a run with the same bits."""
    run = folder / "runs" / "a"
    shutil.copytree(complete, run)
    for name in names:
        file = run / name
        file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    for command in ("status", "reduce", "stop"):
        said = toscore(command, run)
        assert said.code in (0, 2), (names, command, said.err)
        assert "Traceback" not in said.err and len(said.err.strip().splitlines()) <= 3, said.err
    said = toscore("run", write(folder), "--in-process")
    assert said.code == 0, (names, said.err)
    assert results.bits(run) == results.bits(complete), names
    assert results.reduced(run) == results.reduced(complete), names


def names_of(complete):
    return sorted(str(file.relative_to(complete)) for file in complete.rglob("*") if file.is_file())


@pytest.mark.parametrize("share", [pytest.param(0.0, marks=pytest.mark.slow), 0.5])
def test_without_its_lease_and_its_configuration(complete, tmp_path, share):
    """Everything that is neither a record nor a result is cut off at once."""
    names = [name for name in names_of(complete) if name.startswith(("run/", "lease"))]
    assert len(names) >= 2
    goes_on(complete, tmp_path, *names, share=share)


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_each_object_in_turn(complete, tmp_path, share):
    """Of minima, paths, records, commits, the lease and the configuration, whichever is cut off."""
    for number, name in enumerate(names_of(complete)):
        goes_on(complete, tmp_path / str(number), name, share=share)
