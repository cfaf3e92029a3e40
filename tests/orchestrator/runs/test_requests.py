"""How many requests a run makes to its store, against what `toscore plan` says."""

import json
from collections import Counter
from pathlib import Path

import pytest

from tests.helpers.command import toscore
from tests.helpers.run_files import write_run_file
from workers.storage.folder import FolderObjects
from workers.storage.open_objects import STORES


@pytest.fixture
def requests(monkeypatch):
    """Counts the requests to folders, by the operation and the first part of the name."""
    counted = Counter()

    class Counted:
        def __init__(self, location):
            self._inner = FolderObjects(Path(location))

        def __getattr__(self, name):
            operation = getattr(self._inner, name)
            if not callable(operation):
                return operation

            def counting(*arguments, **options):
                counted[name, str(arguments[0]).split("/")[0] if arguments else ""] += 1
                return operation(*arguments, **options)

            return counting

    monkeypatch.setattr("workers.storage.open_objects.STORES", {**STORES, "": Counted})
    return counted


SETTINGS = {
    "data": {"name": "digits", "subset": 100},
    "network": {"name": "fc", "hidden": [4]},
    "minima": {"count": 6, "epochs": 2, "polish": "off"},
    "paths": {"start": "line", "epochs": 3, "points": 4},
}


@pytest.mark.parametrize(("seconds", "kept"), [(60, 0), (0, 6)])
def test_a_run_makes_as_many_requests_as_planned(tmp_path, requests, seconds, kept):
    """Checkpoints go by time: short tasks publish none. The plan is right within a fifth, and an upper bound
    where checkpoints are asked for at every epoch, since paths may end before their last one."""
    file = write_run_file(tmp_path, "a", SETTINGS, resources={"checkpoint_seconds": seconds})
    planned = json.loads(toscore("plan", file, "--json").out)["store_requests"]
    requests.clear()
    assert toscore("run", file, "--in-process").code == 0
    assert requests["put", "checkpoints"] >= kept and (kept or not requests["put", "checkpoints"])
    assert (0.5 if kept else 0.8) * planned < sum(requests.values()) < 1.2 * planned
