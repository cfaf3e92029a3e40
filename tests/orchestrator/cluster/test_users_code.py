"""A user's own data, network and checkpoints on a real Ray, where one of the pairs kills its worker."""

import itertools
import json
import math
import signal

import pytest
import torch

from tests.helpers import results
from tests.helpers.command import toscore
from tests.helpers.process import started
from tests.helpers.run_files import write_run_file

CODE = '''
import os, signal
import torch
from torch import nn

def load(log):
    with open(log, "a") as lines:
        lines.write(f"{os.getpid()}\\n")
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(60, 4, generator=draw)
    return x[:40], (x[:40, 0] > 0).long(), x[40:], (x[40:, 0] > 0).long()

class Deadly(nn.Module):
    """A linear classifier that kills its process where its marker is neither small nor huge."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 2)
        self.marker = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        if 1.0 < float(self.marker) < 9e5:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.linear(x) + 0 * self.marker.sum()

def build(input_shape, classes):
    return Deadly()
'''


def write(folder, harmless, pairs, workers):
    """Harmless checkpoints and a deadly one, which is joined with the first of them alone."""
    (folder / "mine.py").write_text(CODE)
    (folder / "yaml.py").write_text("raise SystemExit('yaml.py of the user')\n")
    names = []
    for number in range(harmless + 1):
        draw = torch.Generator().manual_seed(number)
        state = {
            "linear.weight": 0.1 * torch.randn(2, 4, generator=draw),
            "linear.bias": torch.zeros(2),
            "marker": torch.full((1,), 1e6 if number == harmless else 0.0),
        }
        torch.save(state, folder / f"{number}.pt")
        names.append(f"{number}.pt")
    joined = [*list(itertools.combinations(range(harmless), 2))[: pairs - 1], (0, harmless)]
    settings = {
        "data": {"name": "mine:load", "log": str(folder / "log")},
        "network": "mine:build",
        "minima": {"from": names},
        "paths": {"start": "line", "epochs": 1, "points": 3, "evaluate_every": 1, "batch_size": 20},
        "pairs": {"rule": "list", "pairs": joined},
        "resources": {"workers": workers, "max_attempts": 2},
    }
    write_run_file(folder, "a", settings)


def ended(folder, *arguments):
    """The exit code of `toscore` and its output."""
    with started(folder, *arguments) as process:
        output, _ = process.communicate(timeout=240)
    return process.returncode, output


def check_quarantine(folder, harmless, pairs):
    """One path alone has failed, with its cause; all others are done, each once."""
    result = json.loads(toscore("reduce", folder / "runs" / "a", "--json").out)
    total, done = math.comb(harmless + 1, 2), pairs - 1
    assert result["pairs"] == {"total": total, "done": done, "skipped": total - pairs, "failed": 1}
    (failure,) = result["failures"]
    assert failure["kind"] == "kills its worker"
    assert failure["task"] == f"path 0–{harmless}"
    assert "2 workers in a row were lost" in failure["reason"]
    assert set(results.times_completed(folder / "runs" / "a").values()) == {1}


@pytest.fixture(scope="module")
def one_worker(tmp_path_factory):
    """The folder of an ended run, its exit code and its output."""
    folder = tmp_path_factory.mktemp("one-worker")
    write(folder, harmless=4, pairs=7, workers=1)
    return folder, *ended(folder, "run", "a.yaml")


def test_a_pair_that_kills_its_worker_is_quarantined_alone(one_worker):
    """The other pairs are done, this one has failed with its cause, and the exit code is 3."""
    folder, code, output = one_worker
    assert code == 3, output
    check_quarantine(folder, 4, 7)


def test_the_driver_alone_loads_the_data(one_worker):
    """Every worker gets the data that its driver has loaded, from a module beside the run file; a module of
    the user's that is called yaml.py replaces no library in workers."""
    folder, code, output = one_worker
    assert code == 3 and "core_worker" not in output, output
    assert len(set((folder / "log").read_text().split())) == 1


def test_retry_starts_the_failed_path_alone(one_worker):
    """Six of seven paths are done before `retry` starts; the other one kills the process at once."""
    folder, _, _ = one_worker
    before = results.times_completed(folder / "runs" / "a")
    code, output = ended(folder, "retry", "a.yaml", "--in-process")
    assert code == -signal.SIGKILL and "7 paths (6 done)" in output, output
    assert results.times_completed(folder / "runs" / "a") == before


@pytest.mark.chaos
def test_one_pair_among_two_hundred(tmp_path):
    """With two workers, again one path alone fails, and fails again in `retry`."""
    write(tmp_path, harmless=21, pairs=200, workers=2)
    for command in ("run", "retry"):
        code, output = ended(tmp_path, command, "a.yaml")
        assert code == 3 and "path 0–21 failed" in output, output
        check_quarantine(tmp_path, 21, 200)
