"""What holds for all of deploy/: the token on, no credential, shell that parses, a page in each folder."""

import json
import re
import subprocess

import pytest

from tests.deploy.files import DEPLOY, documents

FILES = sorted(path for path in DEPLOY.rglob("*") if path.is_file())
FOLDERS = sorted(path for path in DEPLOY.iterdir() if path.is_dir())
SHELL = [path for path in FILES if path.suffix in (".sh", ".sbatch")]
STARTS_RAY = re.compile(r"^(?!\s*#).*\bray start\b|kind: Ray(Cluster|Job)|^FROM ", re.MULTILINE)
TOKEN_ON = re.compile(r"RAY_AUTH_MODE=token|authOptions: \{mode: token\}")
CREDENTIAL = re.compile(
    r"AKIA[0-9A-Z]{16}|-----BEGIN [A-Z ]*PRIVATE KEY"
    r"|(SECRET_ACCESS_KEY|ACCESS_KEY_ID|AUTH_TOKEN|PASSWORD)\s*[=:]\s*['\"]?[A-Za-z0-9/+]{8,}"
)


def test_all_that_start_ray_are_found():
    """The pattern that finds them sees the five ways there are."""
    found = {path.parent.name for path in FILES if is_starter(path)}
    assert found == {"docker", "kuberay", "ray-up", "slurm", "local"}


def is_starter(path):
    return path.suffix != ".md" and STARTS_RAY.search(path.read_text()) is not None


@pytest.mark.parametrize("path", [p for p in FILES if is_starter(p)], ids=lambda p: p.name)
def test_token_on(path):
    """Every file that starts Ray turns token authentication on."""
    assert TOKEN_ON.search(path.read_text())


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(DEPLOY)))
def test_no_credential(path):
    """No file holds a key, a token or a password."""
    assert not CREDENTIAL.search(path.read_text())


@pytest.mark.parametrize(
    "text",
    ["AWS_SECRET_ACCESS_KEY=abcdefgh12345678", "AKIAIOSFODNN7EXAMPLE", "password: hunter2hunter2"],
)
def test_a_credential_would_be_found(text):
    """The pattern above can fail."""
    assert CREDENTIAL.search(text) or CREDENTIAL.search(text.upper())


@pytest.mark.parametrize("path", SHELL, ids=lambda p: p.name)
def test_shell(path):
    """Scripts parse, stop at errors, and can be executed where that is how they are called."""
    text = path.read_text()
    subprocess.run(["bash", "-n", path], check=True)
    assert text.startswith("#!/usr/bin/env bash\n") and "set -euo pipefail" in text
    assert path.suffix == ".sbatch" or path.stat().st_mode & 0o111


@pytest.mark.parametrize("path", [p for p in FILES if p.suffix == ".yaml"], ids=lambda p: p.name)
def test_yaml(path):
    """Every YAML file parses into mappings, and opens with a comment for its reader."""
    assert all(isinstance(document, dict) for document in documents(path))
    assert path.read_text().startswith("# ")


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: p.name)
def test_a_page(folder):
    """Each folder has a page that goes from nothing to a barcode and names what listens."""
    text = (folder / "README.md").read_text()
    assert folder.name == "prometheus" or "rom nothing to a barcode" in text
    assert re.search(r"127\.0\.0\.1|[Ll]isten|Ports", text)
    for target in re.findall(r"\]\(([^):]+)\)", text):
        assert (folder / target).exists(), target


def test_slurm_requeues_before_the_limit():
    """The batch shell is warned before the limit, may be requeued, and appends to its log."""
    text = (DEPLOY / "slurm" / "toscore.sbatch").read_text()
    options = dict(re.findall(r"^#SBATCH --([\w-]+)=?(.*)$", text, re.MULTILINE))
    assert re.fullmatch(r"B:TERM@\d+", options["signal"])
    assert "requeue" in options and options["open-mode"] == "append"
    assert 'scontrol requeue "$SLURM_JOB_ID"' in text


def test_the_dashboard():
    """Panels do not overlap, and ask for metrics that the page next to it explains, and for no others."""
    folder = DEPLOY / "prometheus"
    board = json.loads((folder / "grafana.json").read_text())
    page = (folder / "README.md").read_text()
    explained = set(re.findall(r"`(ray_toscore_\w+)", page))
    asked = {
        name.removesuffix("_bucket")
        for panel in board["panels"]
        for target in panel["targets"]
        for name in re.findall(r"ray_toscore_\w+", target["expr"])
    }
    assert asked == explained
    places = [
        (x, y)
        for panel in board["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(places) == len(set(places)) and max(x for x, _ in places) < 24
