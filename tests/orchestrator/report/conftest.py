import pytest

from orchestrator.report.figure import Figure
from tests.helpers.command import toscore
from tests.helpers.made_run import HEIGHTS, LOSSES, complete_run, made_run


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A complete run with a barcode known by hand."""
    return complete_run(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="session")
def report(made, tmp_path_factory):
    """The folder of its report."""
    out = tmp_path_factory.mktemp("report")
    said = toscore("report", made.folder, "--out", out)
    assert said.code == 0, said.err
    assert str(out / "report.html") in said.out
    return out


@pytest.fixture
def undrawn(monkeypatch):
    """Figures keep their captions and tables and are not drawn, which takes most of the time of a report."""
    monkeypatch.setattr(Figure, "svg", lambda figure, *, wide=True: "<svg></svg>")
    monkeypatch.setattr(
        Figure, "files", lambda figure: {f"{figure.name}.csv": figure.table.to_csv().encode()}
    )


RAISED = {pair: height + 0.25 for pair, height in HEIGHTS.items()}


def run_with(folder, name, heights=HEIGHTS, **run_file):
    made = made_run(folder, len(LOSSES), name, **run_file)
    made.minima(dict(enumerate(LOSSES)))
    made.paths(heights, LOSSES)
    return made


@pytest.fixture(scope="session")
def compared_runs(tmp_path_factory):
    """Two depths of one network, and one network with and without batch norm."""
    folder = tmp_path_factory.mktemp("runs")
    return [
        run_with(folder, "shallow", RAISED, network={"name": "fc", "hidden": [8]}),
        run_with(folder, "deep", network={"name": "fc", "hidden": [8, 8]}),
        run_with(folder, "plain", RAISED, network={"name": "cnn1", "channels": 4}),
        run_with(folder, "normed", network={"name": "cnn1", "channels": 4, "batch_norm": True}),
    ]


@pytest.fixture(scope="session")
def comparison(compared_runs, tmp_path_factory):
    out = tmp_path_factory.mktemp("compared")
    said = toscore("compare", *(made.folder for made in compared_runs), "--out", out)
    assert said.code == 0, said.err
    assert "bottleneck distances" in said.out and "0.25" in said.out
    return out
