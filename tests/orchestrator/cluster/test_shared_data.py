"""What workers on a real Ray get from their driver: its data and its folders of code, not its import path."""

import json

from tests.helpers.process import started
from tests.helpers.results import raw_records

CODE = """
import os
from pathlib import Path

import torch

def load(log):
    with open(log, "a") as lines:
        lines.write(f"{os.getpid()}\\n")
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(60, 4, generator=draw)
    return x[:40], (x[:40, 0] > 0).long(), x[40:], (x[40:, 0] > 0).long()
"""


def test_the_driver_alone_loads_the_data(tmp_path):
    """Two workers on Ray train on data that their driver's process has loaded, from a module that lies beside
    the run file; a module of the user's called yaml.py replaces no library in them."""
    (tmp_path / "mydata.py").write_text(CODE)
    (tmp_path / "yaml.py").write_text("raise SystemExit('yaml.py of the user')\n")
    settings = {
        "name": "a",
        "store": str(tmp_path / "runs"),
        "data": {"name": "mydata:load", "log": str(tmp_path / "log")},
        "network": {"name": "fc", "hidden": [3]},
        "minima": {"count": 4, "epochs": 1, "polish": "off"},
        "paths": {"start": "line", "epochs": 1, "points": 3},
        "resources": {"workers": 2},
    }
    (tmp_path / "a.yaml").write_text(json.dumps(settings))
    with started(tmp_path, "run", "a.yaml") as process:
        output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    assert "core_worker" not in output, "a warning of Ray's"
    workers = {record["worker"] for record in raw_records(tmp_path / "runs" / "a", "minima")}
    assert workers <= {"worker-0", "worker-1"}
    assert len(set((tmp_path / "log").read_text().split())) == 1
