"""Locations and names that cannot be those of a run: one sentence and exit code 2, without a traceback."""

import pytest

from tests.helpers.command import toscore

RUN = """
name: first
data: {name: digits, subset: 60}
network: {name: fc, hidden: [3]}
minima: {count: 2, epochs: 1}
paths: {epochs: 2, points: 4, start: line}
"""


@pytest.fixture
def run_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text(RUN)
    return "run.yaml"


def refused(*arguments):
    """The sentence with which a command is refused."""
    said = toscore(*arguments)
    assert said.code == 2, said
    assert said.out == "" and len(said.err.splitlines()) == 1, said
    return said.err


@pytest.mark.parametrize("scheme", ["s3", "gs", "az"])
@pytest.mark.parametrize(
    ("rest", "words"), [("", "names no bucket"), ("bucket//x", "without empty parts")]
)
def test_a_url_without_a_location(run_file, scheme, rest, words):
    """In the run file and as the argument of a command."""
    assert words in refused("run", run_file, "--set", f"store={scheme}://{rest}", "--in-process")
    assert words in refused("status", f"{scheme}://{rest}")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a\0b", "it must be letters, digits"),
        ("..", "it must be letters, digits"),
        ("a/b", "it must be letters, digits"),
        ("n" * 300, "it must be at most 200 characters long"),
    ],
)
def test_a_name_that_is_none(run_file, name, words):
    """The message says what a name may be."""
    assert words in refused("run", run_file, "--set", f"name={name}", "--in-process")


@pytest.mark.parametrize(("location", "words"), [("a\0b", "NUL"), ("n" * 300, "name too long")])
def test_a_folder_that_cannot_exist(run_file, location, words):
    """As a store and as a run."""
    assert words in refused("run", run_file, "--set", f"store={location}", "--in-process")
    assert words in refused("status", location)


def test_a_run_may_be_called_like_a_file(run_file):
    """`x.yaml` is a name like another: the run's folder is not taken for a run file."""
    said = toscore("run", run_file, "--set", "name=x.yaml", "--in-process", "--quiet")
    assert said.code == 0, said.err
    assert toscore("status", "runs/x.yaml").out.splitlines()[0] == "x.yaml: complete"
