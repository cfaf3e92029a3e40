"""`from orchestrator import run`: networks, losses and tensors of a program, known by code and contents."""

import asyncio

import matplotlib
import pytest
import torch
from torch import nn

from orchestrator import load_run, run
from orchestrator.run_file.errors import BadRunFile, UserError
from tests.helpers import results

matplotlib.use("Agg")
SETTINGS = {
    "minima": {"count": 2, "epochs": 2},
    "paths": {"epochs": 2, "points": 4, "start": "line"},
}


def build():
    return nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 1))


def squared(outputs, targets):
    return ((outputs - targets) ** 2).mean(dim=1)


@pytest.fixture(scope="module")
def data():
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(40, 3, generator=draw)
    targets = inputs.sum(dim=1, keepdim=True)
    return inputs[:30], targets[:30], inputs[30:], targets[30:]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("python")


@pytest.fixture(scope="module")
def done(data, folder):
    return run(build, data, loss=squared, name="a", store=folder, progress=False, **SETTINGS)


def test_losses_are_those_of_plain_pytorch(done, data):
    """The loss of each minimum is the mean of the given function at its state dict."""
    assert done.complete and len(done.losses) == 2
    for index, loss in enumerate(done.losses):
        module = build()
        module.load_state_dict(done.minimum(index))
        with torch.no_grad():
            plain = squared(module(data[0]), data[1]).double().mean()
        assert loss == pytest.approx(float(plain), rel=1e-5)


def test_it_resumes_inside_a_running_event_loop(done, data, folder):
    """The same call again, as in a notebook, runs nothing anew."""

    async def cell():
        return run(build, data, loss=squared, name="a", store=folder, progress=False, **SETTINGS)

    again = asyncio.run(cell())
    assert (again.losses == done.losses).all()
    assert set(results.times_completed(folder / "a").values()) == {1}


def test_other_data_or_code_are_another_run(done, data, folder):
    """Changed tensors, a changed width around a function, or another loss share no result."""
    width = 3
    wider = run(
        lambda: nn.Sequential(nn.Linear(3, width), nn.Linear(width, 1)),
        (data[0] + 1, *data[1:]),
        loss="mse",
        name="a",
        store=folder,
        progress=False,
        **SETTINGS,
    )
    assert wider.complete and not set(wider.losses) & set(done.losses)


def test_figures_are_matplotlib_axes(done, folder):
    """Each plot returns axes, its own or the given ones; load_run has them too."""
    ax = done.plot_barcode()
    assert isinstance(ax, matplotlib.axes.Axes)
    assert load_run(str(folder / "a")).plot_path(0, 1, ax=ax) is ax
    assert done.plot_diagram().get_xlabel().startswith("birth")


@pytest.mark.parametrize(
    ("arguments", "keys", "says"),
    [
        ((build(), [1, 2, 3, 4]), {"name": "b"}, "give a function that builds it"),
        ((build, [1, 2, 3, 4]), {}, "name is missing"),
        ((build,), {"name": "b"}, "data is missing"),
        ((build, torch.zeros(3)), {"name": "b"}, "data"),
        (
            (build, ([[1.0]], [[1.0]], [[1.0]], [[1.0]])),
            {"name": "b", "path": {}},
            "path is not a key",
        ),
    ],
)
def test_what_is_not_possible_is_one_sentence(tmp_path, arguments, keys, says):
    """Refused before anything is written."""
    with pytest.raises((BadRunFile, UserError), match=says):
        run(*arguments, store=tmp_path / "runs", progress=False, **keys)
    assert not (tmp_path / "runs").exists()
