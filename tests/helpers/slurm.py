"""A real Slurm with two nodes on this machine, with its own key, ports and folders."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.cluster import free_ports
from tests.helpers.waiting import wait_for

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue")

CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,sched_interval=2
MpiDefault=none
ReturnToService=2
KillWait=10
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=1
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""


def is_installed() -> bool:
    """Whether Slurm is here and may be run as root."""
    return os.geteuid() == 0 and all(map(shutil.which, PROGRAMS))


@dataclass(frozen=True)
class Slurm:
    """A running Slurm; `environment` is what its commands need."""

    folder: Path
    environment: dict[str, str]

    def command(self, *arguments: object, **more: str) -> str:
        """What a Slurm command prints."""
        return subprocess.run(
            [str(a) for a in arguments],
            env=self.environment | more,
            capture_output=True,
            text=True,
            check=True,
            cwd=self.folder,
        ).stdout

    def job(self, number: str) -> dict[str, str]:
        """What Slurm knows of a job."""
        words = self.command("scontrol", "--oneliner", "show", "job", number).split()
        return dict(word.split("=", 1) for word in words if "=" in word)


@contextlib.contextmanager
def slurm(folder: Path, environment: dict[str, str]) -> Iterator[Slurm]:
    """Slurm in a folder; its daemons run in the foreground and end with us."""
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o600)
    (folder / "state").mkdir()
    host = socket.gethostname().partition(".")[0]
    conf = folder / "slurm.conf"
    conf.write_text(CONFIGURATION.format(host=host, ports=free_ports(3), folder=folder))
    own = environment | {"SLURM_CONF": str(conf)}
    socket_ = folder / "munge.socket"
    munge = ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={socket_}"]
    munge += [f"--{name}-file={folder}/munge.{name}" for name in ("pid", "seed", "log")]
    daemons = {
        "munged": munge,
        "slurmctld": ["slurmctld", "-D", "-c"],
        "n1": ["slurmd", "-D", "-N", "n1"],
        "n2": ["slurmd", "-D", "-N", "n2"],
    }
    with contextlib.ExitStack() as stack:
        for name, command in daemons.items():
            stack.enter_context(_daemon(command, own, folder / f"{name}.out"))
            if name == "munged":
                _until(socket_.exists)
        made = Slurm(folder, own)
        _until(lambda: made.command("sinfo", "--noheader", "--format=%T").split() == ["idle"])
        try:
            yield made
        finally:
            with contextlib.suppress(subprocess.CalledProcessError):
                made.command("scancel", "--full", "--partition=main")
                _until(lambda: not made.command("squeue", "--noheader").strip())


@contextlib.contextmanager
def _daemon(command: list[str], environment: dict[str, str], log: Path) -> Iterator[None]:
    with log.open("w") as out:
        process = subprocess.Popen(
            command, env=environment, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _until(what: Callable[[], bool], seconds: float = 60) -> None:

    def reached() -> bool:
        with contextlib.suppress(subprocess.CalledProcessError):
            return what()
        return False

    wait_for(reached, seconds)
