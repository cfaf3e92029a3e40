"""The GPU's benchmark runs everywhere, so that it is in order on the day when there is a GPU."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.benchmarks import gpu
from workers.problems.networks import build
from workers.tasks.specs import NetworkSpec

ROOT = Path(__file__).parents[2]
TORCH_ALONE = """
import builtins, sys
plain = builtins.__import__
def only_torch(name, globals=None, locals=None, fromlist=(), level=0):
    top = name.partition(".")[0]
    if level == 0 and top in {blocked!r}:
        asked = (globals or {{}}).get("__name__", "")
        if asked.partition(".")[0] in ("topo_core", "workers", "tests"):
            raise ImportError(f"{{asked}} needs {{name}}")
    return plain(name, globals, locals, fromlist, level)
builtins.__import__ = only_torch
from tests.benchmarks import gpu
gpu.main(["--device", "cpu", "--tiny", "fc"])
"""
BLOCKED = (
    "ray",
    "pydantic",
    "pyarrow",
    "gudhi",
    "scipy",
    "safetensors",
    "torchvision",
    "sklearn",
    "obstore",
    "orchestrator",
    "pytest",
)


def test_it_needs_torch_alone():
    """With every other dependency out of reach the command prints its table."""
    program = TORCH_ALONE.format(blocked=BLOCKED)
    said = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stderr
    assert "| FC 784-32-32-10, 45 paths, batch 256 | linear |" in said.stdout


def test_every_row_runs(capsys):
    """Packs of CNN and ResNet, and the price of a study, at sizes that mean nothing."""
    found = gpu.main(["--device", "cpu", "--tiny", "cnn2", "resnet", "fig5-svhn"])
    assert set(found) == {"cnn2", "resnet", "fig5-svhn"}
    assert all(value > 0 for value in found.values())
    table = capsys.readouterr().out
    assert "| ResNet 195k, 32x32x3, 8 paths, batch 256 | channels_last |" in table
    assert "56 x 200" in table


@pytest.mark.skipif(torch.cuda.is_available(), reason="of a machine without a GPU")
def test_without_a_gpu_it_says_so(capsys):
    """Nothing is measured, and nothing fails."""
    assert gpu.main([]) == {}
    assert capsys.readouterr().out.startswith("There is no CUDA device here")


def test_flops_are_counted_by_hand():
    """784-32-32-10: two for each weight forward and for each gradient, none for that of the images."""
    module = build(NetworkSpec.parse({"name": "fc"}), (1, 28, 28), 10)
    first, rest = 784 * 32, 32 * 32 + 32 * 10
    assert gpu.flops(module, torch.zeros(1, 1, 28, 28)) == 4 * first + 6 * rest
    cnn = build(NetworkSpec.parse({"name": "cnn1", "channels": 3}), (1, 8, 8), 10)
    assert gpu.flops(cnn, torch.zeros(1, 1, 8, 8)) == 4 * 64 * 3 * 25 + 6 * 3 * 10


def test_rows_have_their_sizes():
    """Forty-five paths of 17 points of FC; eight of CNN-2-32 and of the ResNet; batch 256."""
    assert (gpu.ROWS["fc"].paths, gpu.ROWS["cnn2"].paths, gpu.ROWS["resnet"].paths) == (45, 8, 8)
    assert {(row.points, row.batch) for row in gpu.ROWS.values()} == {(17, 256)}
    assert {study.paths for study in gpu.STUDIES.values()} == {56}
