"""Data that do not fit into the memory of a device, or of the machine, are streamed chunk by chunk."""

import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from topo_core.objectives.losses.squared_error import SquaredError
from topo_core.objectives.network_loss import ModuleObjective
from topo_core.objectives.protocol import Step
from workers.problems import evaluation, loaded_problem
from workers.problems.data_placement import placement_of
from workers.problems.data_sets import load_dataset
from workers.problems.evaluation import Evaluation, free_memory, pinned
from workers.problems.loaded_problem import load_problem
from workers.problems.user_arrays import is_mapped
from workers.tasks.problem import Problem
from workers.tasks.specs import DataSpec, NetworkSpec

GB = 10**9


@pytest.mark.parametrize(
    ("data", "free", "mapped", "streamed"),
    [
        (12 * GB, 2 * GB, False, True),
        (12 * GB, 80 * GB, False, False),
        (12 * GB, 80 * GB, True, False),
        (12 * GB, 30 * GB, False, False),
        (12 * GB, 29 * GB, False, True),
        (12 * GB, None, False, False),
        (12 * GB, None, True, True),
        (0, 0, False, False),
    ],
)
def test_when_data_are_streamed(data, free, mapped, streamed):
    """Data that need more than 40 % of the device's free memory, and memory-mapped data on a CPU."""
    assert placement_of(data, free, mapped=mapped).streamed is streamed


def networks():
    """Networks of different evaluation strategies: fully connected, convolutional, batch norm, other."""
    norm = nn.Sequential(
        nn.Flatten(), nn.Linear(9, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 3)
    )
    return {
        "linear": nn.Sequential(nn.Flatten(), nn.Linear(9, 4), nn.Tanh(), nn.Linear(4, 3)),
        "convolutional": nn.Sequential(
            nn.Conv2d(1, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3)
        ),
        "batch norm": norm,
        "other": nn.Sequential(nn.Flatten(), nn.Linear(9, 4), nn.Softplus(), nn.Linear(4, 3)),
    }


def quantities(objective, points, test):
    """Everything that an objective computes, at points in float32 and float64."""
    statistics = objective.statistics(points[0])
    yield from statistics.values()
    alphas = torch.linspace(0, 1, 5).expand(2, 5)
    for rows in (points, points.double()):
        yield objective.losses(rows)
        yield from objective.gradients(rows, Step(0, 1, 1))
        yield from objective.full_gradients(rows)
        paths = torch.stack([rows, rows.flip(0)])
        yield from objective.gradients_of_paths(paths, [Step(0, 0, 1), Step(1, 0, 1)])
        yield objective.losses_on_segments(rows[:2], rows[1:3], alphas.to(rows))
        if not statistics:
            yield objective.hessian_vector_products(rows, rows.flip(0))
    yield from objective.measure(points, *test)


@pytest.mark.parametrize("name", networks())
@pytest.mark.parametrize("loss", [None, SquaredError()], ids=["classes", "floats"])
def test_streamed_data_give_the_same_bits(name, loss):
    """Losses, gradients, Hessian products, statistics and heights, in float32 and float64."""
    torch.manual_seed(0)
    module, count = networks()[name], 2300
    x = torch.randn(count, 1, 3, 3)
    y = torch.arange(count) % 3 if loss is None else torch.randn(count, 3)
    resident, streamed = (
        ModuleObjective(module, x, y, batch_size=700, loss=loss, streamed=own)
        for own in (False, True)
    )
    points = torch.randn(4, resident.dimension) * 0.3
    pairs = zip(
        quantities(resident, points, (x[:99], y[:99])),
        quantities(streamed, points, (x[:99], y[:99])),
        strict=True,
    )
    for expected, result in pairs:
        torch.testing.assert_close(result, expected, rtol=0, atol=0, equal_nan=True)


def problem_of(name, network="fc"):
    return Problem(NetworkSpec(network), DataSpec(name), "", "")


def test_a_small_device_gets_chunks(monkeypatch):
    """With a made-up limit data stay on the host, and what the network gets are chunks of them."""
    whole = load_problem(problem_of("digits"), Evaluation())
    monkeypatch.setattr(loaded_problem, "free_memory", lambda device: 300_000)
    small = load_problem(problem_of("digits"), Evaluation())
    assert small.placement.streamed and not whole.placement.streamed
    assert small.placement.free_bytes == 300_000
    point = small.initial_point(0)
    assert small.measure(point) == whole.measure(point)


def test_pinning_without_a_gpu():
    """Where CUDA is not available, a tensor stays the same object and no memory is locked."""
    tensor = torch.zeros(3)
    if not torch.cuda.is_available():
        assert pinned(tensor) is tensor
        assert free_memory(torch.device("cpu")) is None


def test_pinning_where_memory_cannot_be_locked(monkeypatch):
    """With a GPU, a tensor that cannot be locked stays as it is; a share of the GPU is free in part."""

    def refuse(self):
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.Tensor, "pin_memory", refuse)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (8 * GB, 10 * GB))
    monkeypatch.setenv(evaluation.GPU_SHARE, "0.25")
    tensor = torch.zeros(3)
    assert pinned(tensor) is tensor
    assert free_memory(torch.device("cuda")) == 2 * GB


@pytest.fixture
def users(monkeypatch):
    """Make a function a user's `load()`; options go into the specification."""
    module = types.ModuleType("placed")
    monkeypatch.setitem(sys.modules, "placed", module)

    def spec(load, **options):
        module.load = load
        return DataSpec("placed:load", tuple(options.items()))

    return spec


def mapped_files(folder):
    """The same values in files that different libraries map into memory."""
    values = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    np.save(folder / "x.npy", values)
    torch.save({"x": torch.from_numpy(values)}, folder / "x.pt")
    values.tofile(folder / "x.bin")
    own = np.load(folder / "x.npy", mmap_mode="r")
    return {
        "numpy": own,
        "numpy rows": own[:],
        "an array over a map": np.asarray(own),
        "torch.load": torch.load(folder / "x.pt", mmap=True)["x"],
        "torch.from_file": torch.from_file(
            str(folder / "x.bin"), size=150, dtype=torch.float32
        ).view(50, 3),
    }


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="no memory map of the process")
def test_files_mapped_by_any_library_stay_in_their_files(tmp_path, users):
    """The values are not copied, the data know it, and a subset is copied."""
    y = np.arange(50) % 2
    for kind, x in mapped_files(tmp_path).items():
        data = load_dataset(users(lambda x=x: (x, y)))
        address = x.data_ptr() if isinstance(x, torch.Tensor) else x.ctypes.data
        assert data.mapped and data.train_inputs.data_ptr() == address, kind
        assert data.to(torch.device("cpu"), torch.float32).mapped
    assert not load_dataset(users(lambda: (x, y), subset=20)).mapped
    assert not is_mapped(torch.zeros(3)) and not is_mapped(np.zeros(3))


def test_a_mapped_file_of_another_dtype(tmp_path, users):
    """It is read into memory, and a note says how it would stay in its file."""
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(50, 3)))
    x = np.load(tmp_path / "x.npy", mmap_mode="r")
    spec = users(lambda: (x, np.arange(50) % 2))
    loaded = load_problem(Problem(NetworkSpec("fc"), spec, "", ""), Evaluation())
    assert not loaded.data.mapped
    (note,) = [note for note in loaded.notes if "mapped" in note]
    assert "are float64 and are read into memory as float32; stored as float32 they stay" in note


LARGE = """
import resource, sys
import numpy as np, torch
from torch import nn
from topo_core.objectives.network_loss import ModuleObjective
from topo_core.objectives.protocol import Step
from workers.problems.user_arrays import is_mapped, tensor_of

def kilobytes(name):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name + ":"))

rows, width = int(sys.argv[2]), 250
x = tensor_of("load", "inputs", np.memmap(sys.argv[1], dtype="f4", mode="r", shape=(rows, width)))
assert is_mapped(x)
y = torch.zeros(rows, dtype=torch.int64)
module = nn.Sequential(nn.Linear(width, 4), nn.Tanh(), nn.Linear(4, 2))
torch.set_num_threads(1)
objective = ModuleObjective(module, x, y, batch_size=100, streamed=True)
point = torch.randn(1, objective.dimension) * 0.1
objective.gradients(point, Step(0, 0, 0))
# Memory that is no map of a file, and no thread's stack: what is allocated from here on.
limit = 1024 * (kilobytes("VmData") + int(sys.argv[3]))
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
for rows in (point, point.double()):
    objective.losses(rows), objective.full_gradients(rows), objective.gradients(rows, Step(0, 1, 0))
    objective.hessian_vector_products(rows, rows)
    print(float(objective.losses(rows)))
try:
    x.clone()
except RuntimeError:
    print("a copy does not fit")
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of memory differ")
def test_memory_does_not_grow_with_a_mapped_file(tmp_path):
    """Losses, gradients and curvatures over 2 GB in 100 MB of memory, in float32 and float64."""
    rows = 2 * GB // (4 * 250)
    with (tmp_path / "x").open("wb") as file:
        file.truncate(rows * 250 * 4)
    done = subprocess.run(
        [sys.executable, "-c", LARGE, str(tmp_path / "x"), str(rows), str(100 * 1024)],
        capture_output=True,
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    first, second, copy = done.stdout.splitlines()
    assert float(first) == pytest.approx(float(second), rel=1e-5)
    assert copy == "a copy does not fit"
