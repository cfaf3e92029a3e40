"""A working folder that is too large is refused before anything is sent, and its largest part named."""

import contextlib

import pytest
from ray._private import ray_constants

from orchestrator.cluster.upload_size import refuse_large
from orchestrator.run_file.errors import UserError
from tests.helpers.command import toscore

RUN_FILE = "{name: a, store: /tmp/runs, data: digits, network: {name: fc, hidden: [4]}}"

pytestmark = pytest.mark.skipif(
    not hasattr(ray_constants, "get_runtime_env_default_excludes"),
    reason="this release of Ray has no function for it",
)


def sparse(file, megabytes):
    """A file of that size, which takes no room on the disk."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as out:
        out.truncate(megabytes * 1_000_000)


def test_the_largest_part_is_named(tmp_path):
    """In one sentence with the sizes and what to do, before any connection is made."""
    (tmp_path / "a.yaml").write_text(RUN_FILE)
    sparse(tmp_path / "models" / "old" / "weights.bin", 150)
    sparse(tmp_path / "images" / "train.bin", 160)
    with contextlib.chdir(tmp_path):
        said = toscore("submit", "a.yaml", "--address", "http://127.0.0.1:9", "--working-dir", ".")
    assert said.code == 2 and len(said.err.strip().splitlines()) == 1
    assert "holds 310 MB, 160 MB of them in images; at most 200 MB" in said.err
    assert ".rayignore" in said.err


@pytest.mark.parametrize("ignored", [".git/objects/pack", ".venv/lib", "data", "runs/a"])
def test_what_is_not_sent_does_not_count(tmp_path, ignored):
    """300 MB of history, of an environment or of what .gitignore and .rayignore name are left out."""
    sparse(tmp_path / ignored / "large", 300)
    (tmp_path / ".gitignore").write_text("data/\n")
    (tmp_path / ".rayignore").write_text("runs\n")
    refuse_large(tmp_path)


def test_a_large_history_counts_where_it_would_be_sent(tmp_path, monkeypatch):
    """With Ray set to leave nothing out, the history of 300 MB is named."""
    monkeypatch.setenv("RAY_OVERRIDE_RUNTIME_ENV_DEFAULT_EXCLUDES", "")
    sparse(tmp_path / ".git" / "objects" / "large", 300)
    with pytest.raises(UserError, match=r"300 MB of them in \.git"):
        refuse_large(tmp_path)
