"""Hosts on one machine: each with its own address, processes, name and temporary files.

A host is a network namespace joined to a bridge, and a process namespace in it. To end its first process
is to cut its power: all its processes end without a message. To take its link down is to cut its cable.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

MAKES_HOSTS = ("ip", "unshare", "mount", "hostname")


def can_make_hosts() -> bool:
    """Whether this machine lets us: root, the programs, and namespaces."""
    if os.geteuid() != 0 or not all(map(shutil.which, MAKES_HOSTS)):
        return False
    probe = ["unshare", "--net", "--mount", "--pid", "--uts", "--fork", "ip", "link"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


@dataclass
class Host:
    """A host; `run` starts a program on it, which is its first process."""

    name: str
    namespace: str
    link: str
    address: str
    process: subprocess.Popen[bytes] | None = None

    def run(
        self, command: Sequence[str], environment: dict[str, str], private: Path, log: Path
    ) -> None:
        """Start a program; it has `private` and /dev/shm for itself, and other folders with all."""
        prepare = (
            'hostname "$0" && mount -t proc proc /proc && mount -t tmpfs tmpfs /dev/shm '
            '&& mount -t tmpfs tmpfs "$1" && shift && exec "$@"'
        )
        inside = ["unshare", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child=KILL"]
        prepared = ["sh", "-c", prepare, self.name, str(private), *command]
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                ["ip", "netns", "exec", self.namespace, *inside, *prepared],
                env=environment,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=environment["HOME"],
            )

    def cut_power(self) -> None:
        """All its processes are gone at once."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def cut_link(self) -> None:
        """Its processes go on and reach no other host."""
        _ip("link", "set", self.link, "down")


@dataclass
class Network:
    """A bridge that this machine has an address on as well."""

    prefix: str
    bridge: str
    subnet: str
    hosts: list[Host] = field(default_factory=list)

    @property
    def address(self) -> str:
        """Ours."""
        return f"{self.subnet}.254"

    def host(self, name: str) -> Host:
        """A new host with a link to all others."""
        number = len(self.hosts) + 1
        namespace = link = f"{self.prefix}-{number}"
        made = Host(name, namespace, link, f"{self.subnet}.{number}")
        self.hosts.append(made)
        _ip("netns", "add", namespace)
        _ip("link", "add", link, "type", "veth", "peer", "eth0", "netns", namespace)
        _ip("link", "set", link, "master", self.bridge, "up")
        _ip("-n", namespace, "address", "add", f"{made.address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            _ip("-n", namespace, "link", "set", device, "up")
        return made


@contextlib.contextmanager
def network() -> Iterator[Network]:
    """A separate network; it and all processes on it are removed at the end."""
    number = os.getpid() % 250
    made = Network(f"tst{number}", f"tst{number}-br", f"10.213.{number}")
    _ip("link", "add", made.bridge, "type", "bridge")
    try:
        _ip("address", "add", f"{made.address}/24", "dev", made.bridge)
        _ip("link", "set", made.bridge, "up")
        yield made
    finally:
        for host in made.hosts:
            host.cut_power()
            subprocess.run(["ip", "netns", "del", host.namespace], check=False)
        _ip("link", "del", made.bridge)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)
