"""A pair that kills its worker, among others, with a user's own network and checkpoints, on Ray."""

import itertools
import json
import math

import pytest
import torch

from tests.helpers import results
from tests.helpers.command import toscore
from tests.helpers.process import started

NETWORK = '''
import os, signal
import torch
from torch import nn

class Deadly(nn.Module):
    """A linear classifier that kills its process where its marker is neither small nor huge."""

    def __init__(self, inputs, classes):
        super().__init__()
        self.linear = nn.Linear(inputs, classes)
        self.marker = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        if 1.0 < float(self.marker) < 9e5:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.linear(x.flatten(1)) + 0 * self.marker.sum()

def build(input_shape, classes):
    return Deadly(torch.Size(input_shape).numel(), classes)
'''


def write(folder, harmless, pairs, workers):
    """Harmless checkpoints and a deadly one, which is joined with one of them alone."""
    (folder / "deadly.py").write_text(NETWORK)
    names = []
    for number in range(harmless + 1):
        draw = torch.Generator().manual_seed(number)
        state = {
            "linear.weight": 0.1 * torch.randn(10, 64, generator=draw),
            "linear.bias": torch.zeros(10),
            "marker": torch.full((1,), 1e6 if number == harmless else 0.0),
        }
        torch.save(state, folder / f"{number}.pt")
        names.append(f"{number}.pt")
    joined = [*list(itertools.combinations(range(harmless), 2))[: pairs - 1], (0, harmless)]
    file = folder / "q.yaml"
    settings = {
        "name": "q",
        "store": str(folder / "runs"),
        "data": {"name": "digits", "subset": 100},
        "network": "deadly:build",
        "minima": {"from": names},
        "paths": {"start": "line", "epochs": 1, "points": 3, "evaluate_every": 1, "batch_size": 50},
        "pairs": {"rule": "list", "pairs": joined},
        "resources": {"workers": workers, "max_attempts": 2},
    }
    file.write_text(json.dumps(settings))
    return file


@pytest.mark.parametrize(
    ("harmless", "pairs", "workers"),
    [(4, 7, 1), pytest.param(21, 200, 2, marks=pytest.mark.chaos)],
)
def test_a_pair_that_kills_its_worker_is_quarantined_alone(tmp_path, harmless, pairs, workers):
    """The others are done, it is failed with its cause, the exit code is 3; `retry` runs it alone."""
    file, run = write(tmp_path, harmless, pairs, workers), tmp_path / "runs" / "q"
    with started(tmp_path, "run", file) as process:
        output, _ = process.communicate(timeout=240)
    assert process.returncode == 3, output
    result = json.loads(toscore("reduce", run, "--json").out)
    total, done = math.comb(harmless + 1, 2), pairs - 1
    assert result["pairs"] == {
        "total": total,
        "done": done,
        "skipped": total - pairs,
        "failed": 1,
    }
    (failure,) = result["failures"]
    assert failure["kind"] == "kills its worker"
    assert failure["task"] == f"path 0–{harmless}"
    assert "2 workers in a row were lost" in failure["reason"]
    before = results.times_completed(run)
    assert set(before.values()) == {1}
    with started(
        tmp_path, "retry", file
    ) as process:  # the network is the user's: named by the file
        output, _ = process.communicate(timeout=240)
    assert process.returncode == 3, output
    assert results.times_completed(run) == before
    assert output.count(f"path 0–{harmless} failed") >= 1
