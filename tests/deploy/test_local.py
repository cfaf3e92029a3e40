"""The two commands for a workstation, as its page has them."""

import secrets
import stat
import subprocess
import sys
import tempfile

import pytest

from tests.deploy.files import DEPLOY, REPOSITORY
from tests.helpers import results
from tests.helpers.cluster import (
    Head,
    cluster_environment,
    daemon,
    free_ports,
    wait_for_dashboard,
)
from tests.helpers.waiting import wait_for

DEMO = REPOSITORY / "examples" / "demo.yaml"
SUBMIT = [sys.executable, "-m", "orchestrator", "submit", DEMO]

pytestmark = pytest.mark.slow


def test_two_commands(tmp_path):
    """`head.sh` makes a token that its user alone can read; `toscore submit` finds it there, and the
    run gets to its barcode; nobody else's environment is needed."""
    plain = cluster_environment(tmp_path, secrets.token_hex(16))
    environment = {k: v for k, v in plain.items() if not k.startswith("RAY_AUTH")}
    port, dashboard, client, agent = free_ports(4)
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as temporary:
        command = [
            *(DEPLOY / "local" / "head.sh", f"--port={port}", f"--dashboard-port={dashboard}"),
            *(f"--ray-client-server-port={client}", f"--dashboard-agent-listen-port={agent}"),
            *(f"--temp-dir={temporary}", "--num-cpus=1", "--object-store-memory=100000000"),
        ]
        log = tmp_path / "head.log"
        with log.open("w") as out, daemon(list(map(str, command)), environment, out):
            token = tmp_path / ".ray" / "auth_token"
            wait_for(lambda: token.exists() and token.read_text(), otherwise=log.read_text)
            assert stat.S_IMODE(token.stat().st_mode) == 0o600
            head = Head("127.0.0.1", port, dashboard, token.read_text(), tmp_path)
            wait_for_dashboard(head, log)
            small = [
                "--set",
                "minima.count=3",
                "--set",
                "minima.epochs=2",
                "--set",
                "paths.epochs=2",
            ]
            done = subprocess.run(
                [*SUBMIT, "--address", head.dashboard, "--set", f"store={tmp_path}/runs", *small],
                env=environment,
                cwd=tmp_path,
                capture_output=True,
                text=True,
                check=False,
            )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "TO-score" in done.stdout
    assert len(results.raw_records(tmp_path / "runs" / "demo", "pairs")) == 3
