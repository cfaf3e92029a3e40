"""`toscore submit`: run a run file on a cluster through Ray's Jobs API, from a machine outside it.

What is submitted is the command `toscore run FILE --address auto`, which the head node carries out. It
takes the run's lease like any other driver, and goes on from what the store holds. So submitting again is
how a run is continued, each time under a new submission id, and a second submission at the same time
leaves with the sentence that says who holds the run.

Store credentials are never sent: Ray keeps what a job is given where the dashboard shows it. The cluster's
nodes have their own.
"""

import contextlib
import os
import secrets
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import orchestrator
import topo_core
import workers
from orchestrator.cluster.jobs import Jobs
from orchestrator.run_file.errors import BadRunFile, UserError
from orchestrator.run_file.reading import load
from orchestrator.runs.provenance import REVISION, VERSION, revision, version
from orchestrator.studies.study import PREFIX, is_study, load_study


def submit(
    file: Path,
    overrides: Sequence[str],
    *,
    address: str,
    working_dir: Path | None = None,
    ship: bool = True,
    detach: bool = False,
    say: Callable[[str], None] = lambda text: print(text, end="", flush=True),
) -> int:
    """Start or continue a run on a cluster, and follow it.

    Args:
        file: the run file, on this machine.
        overrides: `key=value` strings for it.
        address: of the head's dashboard, `http://HOST:8265`.
        working_dir: a folder that goes along (the user's code, checkpoints); the run file lies in it.
            None: the run file goes alone.
        ship: send this program's own code along, so that the cluster runs what was tried here; false:
            the cluster has it installed.
        detach: do not wait.
        say: prints a piece of the log.

    Returns:
        The run's exit code; 0 at once when detached.

    Raises:
        BadRunFile: the run file, found before anything is sent.
        UserError: the cluster cannot be reached, refuses, or could not start the job.
    """
    name, location, store = _target(file, overrides)
    _refuse_private_store(store)
    job = f"toscore-{name}-{secrets.token_hex(4)}"
    with _payload(file, working_dir) as (folder, path):
        jobs = Jobs(address)
        command = ["python", "-m", "orchestrator", "run", path, "--address", "auto"]
        for override in overrides:
            command += ["--set", override]
        environment: dict[str, Any] = {"working_dir": str(folder), "env_vars": _origin()}
        if ship:
            packages = (topo_core, workers, orchestrator)
            environment["py_modules"] = [str(Path(p.__file__ or "").parent) for p in packages]
        jobs.submit(job, shlex.join(command), environment, location)
    print(
        f"Submitted as {job}; `{_ask(file, overrides, location)}` tells how far it is.",
        file=sys.stderr,
    )
    if detach:
        return 0
    try:
        return jobs.follow(job, say)
    except KeyboardInterrupt:
        part = "/RUN" if is_study(file) else ""
        print(
            f"No longer following. The run goes on; to end it: toscore stop {location}{part}",
            file=sys.stderr,
        )
        return 130


def _target(file: Path, overrides: Sequence[str]) -> tuple[str, str, str]:
    """Name, location and store of what is submitted: a run, or a study with its runs under one folder."""
    if not is_study(file):
        run = load(file, overrides)
        return run.name, run.location, run.store
    study = load_study(file, overrides)
    store = study.cells[0].run.store
    return study.name, store, store


def _ask(file: Path, overrides: Sequence[str], location: str) -> str:
    """The command that tells how far a run, or a study, is."""
    if not is_study(file):
        return f"toscore status {location}"
    return shlex.join(["toscore", "studies", str(file), *(f"--set={o}" for o in overrides)])


def _refuse_private_store(store: str) -> None:
    """A folder below the job's own would be gone with the job."""
    if "://" not in store and not os.path.isabs(store):
        raise BadRunFile(
            f"store is {store!r}, a folder relative to where the job runs, which goes with the job: "
            "name an absolute folder that every node mounts, or s3://bucket/prefix"
        )


@contextlib.contextmanager
def _payload(file: Path, working_dir: Path | None) -> Iterator[tuple[Path, str]]:
    """The folder to send, and the run file's name in it."""
    shipped = str(file).startswith(PREFIX)  # with the program, which the cluster has
    if working_dir is None:
        with tempfile.TemporaryDirectory(prefix="toscore-") as folder:
            if not shipped:
                shutil.copy(file, folder)
            yield Path(folder), str(file) if shipped else file.name
        return
    if shipped:
        yield working_dir, str(file)
        return
    try:
        name = file.resolve().relative_to(working_dir.resolve(strict=True))
    except FileNotFoundError:
        raise UserError(f"There is no folder {working_dir}: check --working-dir.") from None
    except ValueError:
        raise UserError(
            f"{file} does not lie in {working_dir}: the run file goes with the --working-dir, so put it "
            "there."
        ) from None
    yield working_dir, name.as_posix()


def _origin() -> dict[str, str]:
    """What the job cannot find out on the cluster, for its provenance."""
    known = {VERSION: version("toscore"), REVISION: revision()}
    return {name: value for name, value in known.items() if value}
