"""The command line: mistyped names are answered with close ones, and the shell completes names."""

import os
import subprocess
import sys

import pytest

from tests.helpers.command import toscore
from tests.helpers.made_run import complete_run


@pytest.mark.parametrize(
    ("wrong", "meant"), [("reprot", "report"), ("compair", "compare"), ("exprot", "export")]
)
def test_a_mistyped_command_is_answered_with_the_right_one(wrong, meant):
    """A mistyped command gives exit code 2 and the closest name."""
    said = toscore(wrong, "runs/demo")
    assert said.code == 2 and "Did you mean" in said.err and f"'{meant}'" in said.err


def test_a_mistyped_run_is_answered_with_its_neighbour(tmp_path):
    """A mistyped run gives one sentence with the closest run, or without one, how to start a run."""
    made = complete_run(tmp_path, "digits")
    said = toscore("status", tmp_path / "digit")
    assert said.code == 2 and said.err.startswith("toscore: There is no run at")
    assert f"did you mean {made.folder}?" in said.err
    assert "`toscore run FILE`" in toscore("status", tmp_path / "nothing-like-it").err


def test_a_mistyped_file_or_study_is_answered_with_its_neighbour(tmp_path):
    """A mistyped file or study is answered with the closest run file beside it or study of the package."""
    (tmp_path / "mine.yaml").write_text("")
    said = toscore("run", tmp_path / "mien.yaml")
    assert said.code == 2 and f"did you mean {tmp_path / 'mine.yaml'}?" in said.err
    assert "check the path" in toscore("plan", tmp_path / "nowhere" / "mine.yaml").err
    said = toscore("studies", "study:fig2-mnst")
    assert said.code == 2 and "did you mean study:fig2-mnist?" in said.err


@pytest.mark.parametrize("command", ["status", "reduce", "report", "retry", "stop", "export"])
def test_a_store_that_refuses_is_one_sentence(command, monkeypatch):
    """Without credentials every command says which to set, with exit code 2 and no traceback."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    said = toscore(
        command, "s3://bucket/runs/demo", *(["--out", "x"] if command == "report" else [])
    )
    assert said.code == 2 and said.err.startswith("toscore: ") and "AWS_ACCESS_KEY_ID" in said.err
    assert len(said.err.splitlines()) == 1


def test_the_shell_completes_commands():
    """bash completes the commands that begin with the typed letters."""
    environment = {
        **os.environ,
        "_TOSCORE_COMPLETE": "complete_bash",
        "COMP_WORDS": "toscore re",
        "COMP_CWORD": "1",
    }
    script = "from orchestrator.cli import app; app(prog_name='toscore')"
    said = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert {"report", "reduce", "retry"} <= set(said.stdout.split())
    assert "watch" not in said.stdout


def test_commands_that_read_a_run_do_not_import_torch(tmp_path):
    """`--help`, `status`, `reduce` and `stop` answer in a second: torch alone takes longer to import."""
    made = complete_run(tmp_path, "digits")
    script = (
        "import sys\nfrom orchestrator.cli import app\n"
        "for words in (['--help'], *([name, sys.argv[1]] for name in ('status', 'reduce', 'stop'))):\n"
        "    try:\n        app(words, prog_name='toscore')\n"
        "    except (SystemExit, Exception) as error:\n        print(repr(error))\n"
        "print('imported:', [m for m in ('torch', 'ray', 'matplotlib', 'jinja2') if m in sys.modules])"
    )
    said = subprocess.run(
        [sys.executable, "-c", script, made.folder], capture_output=True, text=True, check=False
    )
    assert "TO-score" in said.stdout and "there is nothing to stop" in said.stdout, said.stdout
    assert said.stdout.strip().endswith("imported: []"), said.stdout[-200:]
