import pytest

from tests.helpers.command import toscore
from tests.helpers.made_run import complete_run


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
