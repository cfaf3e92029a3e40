"""The Dockerfile's steps: what they copy is there, what they run is shell, and what they leave is safe."""

import subprocess

from tests.deploy.files import DEPLOY, REPOSITORY
from tests.helpers.dockerfile import environment, steps

TEXT = (DEPLOY / "docker" / "Dockerfile").read_text()
STEPS = steps(TEXT)
KNOWN = {"ARG", "FROM", "RUN", "ENV", "WORKDIR", "COPY", "USER", "CMD"}


def arguments_of(instruction):
    return [step.argument for step in STEPS if step.instruction == instruction]


def test_every_step_is_known():
    """The file is read to its end: no line of it is left out or taken for something else."""
    assert {step.instruction for step in STEPS} == KNOWN
    assert len(arguments_of("FROM")) == 1


def test_runs_are_shell():
    """Each RUN is a command that the image's shell can parse."""
    for command in arguments_of("RUN"):
        subprocess.run(["sh", "-n", "-c", command], check=True)


def test_copies_exist_and_reach_the_build():
    """What is copied is in the repository, and the ignore file lets it into the build."""
    ignore = (DEPLOY / "docker" / "Dockerfile.dockerignore").read_text().split()
    packages = set()
    for argument in arguments_of("COPY"):
        *sources, _ = argument.split()
        for source in sources:
            assert (REPOSITORY / source).exists(), source
            assert f"!{source}" in ignore
            packages.add(source)
    assert {"topo_core", "workers", "orchestrator"} <= packages


def test_both_builds():
    """DEVICE chooses between CPU and CUDA, and anything else is refused before anything is installed."""
    (choice,) = [command for command in arguments_of("RUN") if command.startswith("case")]
    install = choice.index("&& pip install")
    for device, index in (("cpu", "whl/cpu"), ("cuda", "pypi.org")):
        said = subprocess.run(
            ["sh", "-c", choice[:install] + ' && echo "$index"'],
            env={"DEVICE": device},
            capture_output=True,
            text=True,
            check=True,
        )
        assert index in said.stdout
    refused = subprocess.run(
        ["sh", "-c", choice[:install]], env={"DEVICE": "tpu"}, capture_output=True, check=False
    )
    assert refused.returncode == 1


def test_not_root_and_token_on():
    """The image's last user is not root, its token is on, and it holds no secret."""
    assert arguments_of("USER")[-1] == "ray"
    assert STEPS[-1].instruction == "CMD"
    made = environment(TEXT, {"REVISION": "1234567"})
    assert made["RAY_AUTH_MODE"] == "token"
    assert made["TOSCORE_REVISION"] == "1234567"
    assert made["PATH"].startswith("/opt/venv/bin:/usr")
    assert not [name for name in made if "TOKEN" in name or "SECRET" in name or "KEY" in name]


def test_installed_from_the_same_constraints():
    """torch and the dependencies are installed with the pinned versions that the tests run with."""
    installs = [command for command in arguments_of("RUN") if "pip install" in command]
    pinned = [command for command in installs if "--constraint constraints.txt" in command]
    assert len(pinned) == len(installs) - 1, "all but toscore itself"
