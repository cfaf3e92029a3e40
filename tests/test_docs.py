"""Every snippet of the README and of `docs/` that can run here is run, in order.

A block that begins with `# NAME` is a file of that name, and so is a YAML run file, by the name in it.
Lines of `sh` blocks that call `toscore` are executed; `console` blocks need other machines.
"""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import topo_core as tc
from orchestrator.run_file.reading import parse
from tests.helpers.command import toscore

ROOT = Path(__file__).parents[1]
HOWTO = sorted((ROOT / "docs" / "howto").glob("*.md"))
PAGES = [ROOT / "README.md", *(ROOT / "docs" / p for p in ("idea.md", "numbers.md")), *HOWTO]
LINKED = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SMALL = {
    "README": ("minima.count=2", "minima.epochs=2", "paths.epochs=2", "paths.points=5"),
    "own-loss": ("minima.polish='off'", "saddles.refine='off'"),
    "escape": ("minima.restarts.count=1", "minima.discover=false", "saddles.refine='off'"),
}
"""Settings that make the runs of a page short; its commands are run as they stand."""


def blocks(page):
    """Language and text of the fenced blocks of a page."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def written_file(language, text):
    """The name of the file that a block is, or None."""
    named = re.match(r"# ([\w.-]+\.(?:py|yaml))$", text.splitlines()[0])
    if named:
        return named[1]
    if language == "yaml":
        return f"{yaml.safe_load(text)['name']}.yaml"
    return None


def call(line, *small):
    """Run one line of a `sh` block, where it calls `toscore`."""
    words = shlex.split(line, comments=True)
    if not words or words[0] != "toscore" or any(w in words for w in ("RUN", "FILE")):
        return
    arguments = words[1:]
    if arguments[0] in ("run", "retry"):
        arguments += ["--in-process", "--quiet"]
    if arguments[0] in ("run", "plan", "escape"):
        arguments += [word for setting in small for word in ("--set", setting)]
    said = toscore(*arguments)
    assert said.code == 0, f"{line}\n{said.out}{said.err}"


@pytest.fixture
def sandbox(tmp_path, monkeypatch):
    """A folder with the files that the pages ask the reader to write."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for page in HOWTO:
        for language, text in blocks(page):
            if language == "python" and (name := written_file(language, text)):
                (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_snippets_run(page, sandbox):
    """All files of a page are written, its programs are executed, and its commands end with exit code 0."""
    ran, scope = 0, {"__name__": "__main__"}
    small = SMALL.get(page.stem, ())
    for language, text in blocks(page):
        name = written_file(language, text) if language in ("python", "yaml") else None
        if name:
            (sandbox / name).write_text(text)
            ran += 1
        elif language == "python":
            exec(compile(text, str(page), "exec"), scope)
            ran += 1
        elif language == "sh":
            for line in text.splitlines():
                call(line, *small)
                ran += 1
    assert ran or all(language == "console" for language, _ in blocks(page))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_run_files_are_whole(page):
    """Every run file of a page is accepted as it stands."""
    for language, text in blocks(page):
        if language == "yaml":
            parse(yaml.safe_load(text))


@pytest.mark.parametrize("page", LINKED, ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    """Every relative link and picture exists, and every picture has an alternative text."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for bang, label, target in re.findall(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)", text):
        if bang:
            assert len(label) > 20, f"{target} has no description"
        if "://" not in target and not target.startswith("#"):
            assert (page.parent / target.partition("#")[0]).exists(), f"{page.name}: {target}"


@pytest.mark.slow
def test_the_notebook_runs():
    """The cells of the notebook run in order."""
    file = ROOT / "docs" / "own_loss.ipynb"
    cells = [c for c in json.loads(file.read_text())["cells"] if c["cell_type"] == "code"]
    scope = {"__name__": "__main__"}
    for cell in cells:
        exec(compile("".join(cell["source"]), str(file), "exec"), scope)
    assert len(cells) >= 5


def test_the_pages_build_without_a_warning(tmp_path):
    """mkdocs builds the pages without a warning, with a reference of all names of topo_core."""
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path)]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    reference = (tmp_path / "reference" / "topo_core.html").read_text()
    for name in tc.__all__:
        assert re.search(rf'id="topo_core[.\w]*\.{name}"', reference), name


def test_every_command_shows_an_example():
    """`--help` of each command has a line that can be copied."""
    from orchestrator.cli import app

    names = [c.name or c.callback.__name__ for c in app.registered_commands]
    assert {"run", "report", "watch", "compare", "export"} <= set(names)
    for command in app.registered_commands:
        assert "Example: `toscore " in command.callback.__doc__, command.callback.__name__
