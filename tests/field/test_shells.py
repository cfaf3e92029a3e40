"""The command under unusual encodings, streams and folders: a result or a sentence, and no traceback."""

import os
import shlex
import signal
import subprocess
import sys
import threading
import types
from pathlib import Path

import pytest
import torch

from tests.helpers.command import toscore
from tests.helpers.made_run import complete_run
from tests.helpers.process import ROOT


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A complete run called x.yaml, in a folder where the user's modules have names of libraries."""
    folder = tmp_path_factory.mktemp("shells")
    complete_run(folder, "x.yaml")
    for name in ("yaml", "secrets", "workers", "torch", "typer"):
        (folder / f"{name}.py").write_text(f"raise SystemExit('{name}.py of the user')\n")
    return folder


def shell(folder, line, **variables):
    """A line of bash in which `$T` is the command."""
    clean = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "PYTHONIOENCODING")}
    environment = {**clean, "PYTHONPATH": str(ROOT), **variables}
    environment["T"] = f"{sys.executable} -m orchestrator"
    return subprocess.run(
        ["bash", "-c", line],
        cwd=folder,
        env={k: v for k, v in environment.items() if v is not None},
        capture_output=True,
        check=False,
        timeout=100,
    )


@pytest.mark.parametrize(
    ("variables", "shows"),
    [
        ({"PYTHONIOENCODING": "ascii", "COLUMNS": "0"}, b"+/-"),
        ({"PYTHONIOENCODING": "latin-1"}, b"\xb1"),
    ],
)
def test_outputs_that_are_not_utf_8_or_have_no_width(run, variables, shows):
    """The result is printed in the characters of the output; the user's modules are not imported."""
    said = shell(run, "$T reduce x.yaml", **variables)
    assert said.returncode == 0 and said.stderr == b""
    assert shows in said.stdout and b"TO-score" in said.stdout


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        ("$T status x.yaml > /dev/full", 2, b"toscore: The output cannot be written: No space"),
        ("$T status x.yaml > /dev/full 2>&1", 2, b""),
        ("$T status x.yaml <&- >&- 2>&-", 0, b""),
        (
            "mkdir a && cd a && rmdir ../a && $T status x.yaml",
            2,
            b"The current folder no longer exists",
        ),
    ],
)
def test_outputs_that_fail_and_folders_that_go(run, line, code, says):
    """One sentence where an output is left, exit code 2, and no traceback."""
    said = shell(run, line)
    assert said.returncode == code and says in said.stderr
    assert len(said.stderr.splitlines()) <= 1


@pytest.mark.parametrize("command", ["schema", "status"])
def test_a_pipe_that_nobody_reads(run, command):
    """The command ends as if SIGPIPE had ended it, as other programs do, and prints no error."""
    reads, writes = os.pipe()
    os.close(reads)
    words = [sys.executable, "-m", "orchestrator", command, *(["x.yaml"] * (command == "status"))]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    said = subprocess.run(
        words, cwd=run, env=environment, stdout=writes, stderr=subprocess.PIPE, check=False
    )
    os.close(writes)
    assert (said.returncode, said.stderr) == (141, b"")


@pytest.mark.parametrize(
    "line",
    [
        "$T plan --no-sample <(cat file)",
        "cat file | $T plan --no-sample -",
    ],
)
def test_a_run_file_from_a_pipe(run, line):
    """`<(…)`, /dev/stdin and - are run files; a pipe is read once, however often a command needs it."""
    (run / "file").write_text(
        "name: a\ndata: digits\nnetwork: {name: fc, hidden: [2]}\nminima: {count: 2}\n"
    )
    said = shell(run, line)
    assert said.returncode == 0 and said.stderr == b"", said.stderr


PIPED = """
name: a
data: {name: digits, subset: 40}
network: {name: "interrupting:build"}
minima: {count: 2, epochs: 2}
paths: {epochs: 1, points: 4, start: line}
saddles: {refine: off}
"""


class Interrupting(torch.nn.Linear):
    """Sends this process Ctrl-C, if asked to, when a run has begun."""

    asked = False

    def forward(self, x):
        if Interrupting.asked and any(Path("runs").rglob("*config*")):
            Interrupting.asked = False
            os.kill(os.getpid(), signal.SIGINT)
        return super().forward(x.flatten(1))


@pytest.mark.parametrize("kind", ["a pipe", "a temporary file"])
def test_a_run_whose_run_file_is_gone(tmp_path, monkeypatch, kind):
    """The command that continues it names the run in its store, and works."""
    module = types.ModuleType("interrupting")
    module.build = lambda: Interrupting(64, 10)
    monkeypatch.setitem(sys.modules, "interrupting", module)
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "piped.yaml"
    if kind == "a pipe":
        os.mkfifo(file)
        threading.Thread(target=file.write_text, args=(PIPED,), daemon=True).start()
    else:
        file.write_text(PIPED)
        monkeypatch.setattr(
            Interrupting, "train", lambda self, mode=True: file.unlink(missing_ok=True) or self
        )
    monkeypatch.setattr(Interrupting, "asked", True)
    said = toscore("run", file, "--in-process", "--quiet")
    assert said.code == 130, said.err
    *_, last = said.err.strip().splitlines()
    command = last.partition("To continue: toscore ")[2]
    assert command == "retry runs/a --in-process --quiet --trust-code", last
    assert toscore(*shlex.split(command)).code == 0


def test_a_machine_without_a_home(run):
    """A plan needs no home folder: without one its sample is timed and not remembered."""
    (run / "mine.yaml").write_text(
        "name: a\ndata: {name: digits, subset: 50}\nnetwork: {name: fc, hidden: [2]}\nminima: {count: 2}\n"
    )
    said = shell(run, "$T plan mine.yaml", HOME=None)
    assert said.returncode == 0 and b"minima" in said.stdout, said.stderr


def test_version():
    """`toscore --version` prints one line."""
    said = toscore("--version")
    assert said.code == 0 and said.out.startswith("toscore 0.") and len(said.out.split()) == 2
