"""A Dockerfile as a list of steps, and as the commands that do the same in an empty root."""

import os
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Step:
    """An instruction (upper case) and its argument, its lines joined."""

    instruction: str
    argument: str


def steps(text: str) -> list[Step]:
    """The steps of a Dockerfile without heredocs."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    found = []
    for line in joined.splitlines():
        if line.strip():
            instruction, _, argument = line.strip().partition(" ")
            found.append(Step(instruction.upper(), argument.strip()))
    return found


def environment(text: str, arguments: Mapping[str, str]) -> dict[str, str]:
    """What a container starts with, and each RUN of the build after it."""
    known = {"PATH": SYSTEM_PATH}
    made: dict[str, str] = {}
    for step in steps(text):
        if step.instruction == "ARG":
            name, _, default = step.argument.partition("=")
            known[name] = arguments.get(name, default)
        elif step.instruction == "ENV":
            for word in shlex.split(step.argument):
                name, _, value = word.partition("=")
                made[name] = _expanded(value, known)
            known |= made
    return made


def _expanded(value: str, known: Mapping[str, str]) -> str:
    return re.sub(r"\$\{?(\w+)\}?", lambda match: known.get(match[1], ""), value)


def build_arguments(text: str, arguments: Mapping[str, str]) -> dict[str, str]:
    """The ARGs with their values."""
    declared = (s.argument.partition("=") for s in steps(text) if s.instruction == "ARG")
    return {name: arguments.get(name, default) for name, _, default in declared}


def commands(
    text: str, arguments: Mapping[str, str], context: Path, root: Path
) -> Iterator[list[str]]:
    """What `docker build` does after FROM, as commands for root of a system that has chroot.

    Args:
        text: the Dockerfile.
        arguments: build arguments.
        context: the folder that COPY copies from.
        root: what FROM would have given.
    """
    variables = {**build_arguments(text, arguments), "PATH": SYSTEM_PATH}
    folder, user = "/", "root"
    names = [step.instruction for step in steps(text)]
    for step in steps(text)[names.index("FROM") + 1 :]:
        match step.instruction:
            case "ENV":
                words = shlex.split(step.argument)
                made = environment(text, arguments)
                variables |= {name: made[name] for name in (w.partition("=")[0] for w in words)}
            case "WORKDIR":
                folder = step.argument
                yield ["mkdir", "-p", f"{root}{folder}"]
            case "USER":
                user = step.argument
            case "COPY":
                *sources, target = step.argument.split()
                for source in sources:
                    place = Path(f"{root}{folder}", target)
                    if (context / source).is_dir():
                        yield ["mkdir", "-p", str(place)]
                        yield ["cp", "-r", f"{context / source}/.", str(place)]
                    else:
                        yield ["cp", str(context / source), str(place)]
            case "RUN":
                yield in_root(root, user, folder, variables, step.argument)


def in_root(
    root: Path, user: str, folder: str, variables: Mapping[str, str], command: str
) -> list[str]:
    """A shell command of a user below another root.

    Of the caller's environment it has what pip is told alone: which mirrors and certificates to use.
    """
    home = "/root" if user == "root" else f"/home/{user}"
    settings = [f"{name}={value}" for name, value in {**variables, "HOME": home}.items()]
    settings += [f"{name}={value}" for name, value in os.environ.items() if name.startswith("PIP_")]
    inside = ["env", "--ignore-environment", *settings, "/bin/sh", "-c"]
    return ["chroot", f"--userspec={user}", root.as_posix(), *inside, f"cd {folder} && {command}"]
