"""The image without a Docker engine: the Dockerfile's steps carried out in an empty Debian system."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlparse

import pytest

from tests.deploy.files import DEPLOY, REPOSITORY
from tests.helpers.dockerfile import commands, environment, in_root

TEXT = (DEPLOY / "docker" / "Dockerfile").read_text()
PREPARED = "TOSCORE_EMPTY_ROOT"
"""A debootstrapped bookworm that this test may change, to save the minutes of making one."""

INDEX = "TOSCORE_TORCH_INDEX"
"""Where torch is taken from, where its own index cannot be reached."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(
        os.geteuid() != 0 or not (shutil.which("debootstrap") or os.environ.get(PREPARED)),
        reason="an empty system is made by root, with debootstrap",
    ),
]


def pip_settings():
    """The settings of pip on this machine for mirrors and certificates, as environment variables."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    found = re.findall(r"^(?:global|:env:)\.([\w-]+)='(.*)'$", listed, re.MULTILINE)
    return {f"PIP_{n.upper().replace('-', '_')}": v.replace("\\n", " ") for n, v in found}


@pytest.fixture
def root(tmp_path):
    """What `FROM debian:bookworm-slim` gives, with this machine's network and package mirrors."""
    prepared = os.environ.get(PREPARED)
    place = Path(prepared) if prepared else tmp_path / "root"
    if not prepared:
        subprocess.run(["debootstrap", "--variant=minbase", "bookworm", place], check=True)
    shutil.copy("/etc/resolv.conf", place / "etc" / "resolv.conf")
    return place


def test_the_image(root, tmp_path, monkeypatch):
    """Every step succeeds; the image's user, who is not root, gets from nothing to a barcode; a Ray
    node that was given no token does not start."""
    settings = pip_settings()
    if certificates := settings.get("PIP_CERT"):
        shutil.copy(certificates, root / "opt" / "certificates.crt")
        settings["PIP_CERT"] = "/opt/certificates.crt"
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    local = {Path(urlparse(word).path) for value in settings.values() for word in value.split()}
    # An index refers to files beside it.
    folders = {path.parent if path.name == "simple" else path for path in local if path.is_dir()}
    lent = [Path("/proc"), *sorted(folders)]

    arguments = {"DEVICE": "cpu", "REVISION": "1234567", "TORCH_INDEX": os.environ.get(INDEX, "")}
    inside = environment(TEXT, arguments)
    example = "toscore run demo.yaml --in-process --set minima.count=3 --set paths.epochs=2"
    no_token = "ray start --head --include-dashboard=false --port=26379"
    script = [
        "set -e",
        *(f"mkdir -p {root}{path} && mount --rbind {path} {root}{path}" for path in lent),
        *map(shlex.join, commands(TEXT, arguments, REPOSITORY, root)),
        shlex.join(["cp", f"{REPOSITORY}/examples/demo.yaml", f"{root}/home/ray/demo.yaml"]),
        shlex.join(in_root(root, "ray", "/home/ray", inside, f"id -u && {example}")),
        shlex.join(in_root(root, "ray", "/home/ray", inside, f"if {no_token}; then exit 1; fi")),
    ]
    # The mounts are this script's own and go with it.
    done = subprocess.run(
        ["unshare", "--mount", "bash", "-c", "\n".join(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert "\n1000\n" in done.stdout and "TO-score" in done.stdout
    assert "token" in done.stdout.rpartition("TO-score")[2]
