"""`toscore submit`: run a run file on a cluster through Ray's Jobs API, from a machine outside it.

The head node executes the submitted command, `toscore run FILE --address auto`. It acquires the run's lease
like any other driver, and continues from the results in the store. So a run is continued by submitting it
again, each time under a new submission id; a second submission at the same time ends with a sentence that
names the holder of the lease.

Store credentials are never sent: Ray's dashboard shows the environment of a job. The nodes of the cluster
have their own.
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
from orchestrator.cluster.upload_size import refuse_large
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
    """Start or continue a run on a cluster, and print its log until it ends.

    Args:
        file: the run file, on this machine.
        overrides: `key=value` strings for it.
        address: of the head's dashboard, `http://HOST:8265`.
        working_dir: a folder to upload (the user's code, checkpoints) that contains the run file.
            None: the run file alone is uploaded.
        ship: upload the code of this program, so that the cluster runs the same version; false: it is
            installed on the cluster.
        detach: return without waiting for the end.
        say: prints a piece of the log.

    Returns:
        The run's exit code; 0 at once when detached.

    Raises:
        BadRunFile: the run file, found before anything is sent.
        UserError: the folder is too large to be sent; the cluster cannot be reached, refuses, or could not
            start the job.
    """
    name, location, store = _target(file, overrides)
    _refuse_private_store(store)
    job = f"toscore-{name}-{secrets.token_hex(4)}"
    with _payload(file, working_dir) as (folder, path):
        refuse_large(folder)
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
        f"Submitted as {job}; `{_ask(file, overrides, location)}` shows its progress.",
        file=sys.stderr,
    )
    if detach:
        return 0
    try:
        return jobs.follow(job, say)
    except KeyboardInterrupt:
        part = "/RUN" if is_study(file) else ""
        print(
            f"No longer following. The run continues; to end it: toscore stop {location}{part}",
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
    """The command that shows the progress of a run or a study."""
    if not is_study(file):
        return f"toscore status {location}"
    return shlex.join(["toscore", "studies", str(file), *(f"--set={o}" for o in overrides)])


def _refuse_private_store(store: str) -> None:
    """Refuse a relative folder: it would be in the folder of the job, which is deleted with the job."""
    if "://" not in store and not os.path.isabs(store):
        raise BadRunFile(
            f"store is {store!r}, a relative folder, which is deleted with the job: "
            "give an absolute folder that every node mounts, or a URL such as s3://bucket/prefix"
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
            f"{file} is not in {working_dir}: move the run file into the --working-dir."
        ) from None
    yield working_dir, name.as_posix()


def _origin() -> dict[str, str]:
    """The version and revision, for the provenance of the run; the cluster cannot determine them."""
    known = {VERSION: version("toscore"), REVISION: revision()}
    return {name: value for name, value in known.items() if value}
