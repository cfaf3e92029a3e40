"""`toscore submit`: execute a run file on a cluster through Ray's Jobs API, from a machine outside it.

The head node executes the submitted command, `python -m orchestrator run FILE --address auto`. This driver
acquires the run's lease like any other, and continues from the results in the store. To continue a run,
submit it again; each submission has a new submission id. A submission while the run is still executed ends
with a sentence that names the holder of the lease.

Store credentials are never sent, because Ray's dashboard shows the environment of a job. The nodes of the
cluster need credentials of their own.
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
        file: the run file or study file, on this machine.
        overrides: `key=value` strings that change values of the file.
        address: of the head's dashboard, `http://HOST:8265`.
        working_dir: a folder to upload, with the user's code and checkpoints; it must contain the run file.
            None uploads the run file alone.
        ship: upload the code of this program, so that the cluster runs the same version. If false, the
            program must be installed on the cluster.
        detach: return without waiting for the end.
        say: prints a piece of the log.

    Returns:
        The exit code of the run; 0 if `detach` is true; 130 after Ctrl-C, which does not stop the run.

    Raises:
        BadRunFile: the run file is not possible; nothing has been sent.
        UserError: the folder is too large to be sent; or the cluster cannot be reached, refuses the job or
            cannot start it.
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
    """Name, location and store of a run; for a study, its name and twice the store, which holds its runs."""
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
    """Refuse a store in a relative folder: it would lie in the folder of the job, which is deleted with the
    job.

    Raises:
        BadRunFile: the store is a relative folder.
    """
    if "://" not in store and not os.path.isabs(store):
        raise BadRunFile(
            f"store is {store!r}, a relative folder, which is deleted with the job: "
            "give an absolute folder that every node mounts, or a URL such as s3://bucket/prefix"
        )


@contextlib.contextmanager
def _payload(file: Path, working_dir: Path | None) -> Iterator[tuple[Path, str]]:
    """The folder to upload, and the name of the run file in it."""
    shipped = str(file).startswith(PREFIX)  # a part of this program, so the cluster has the file
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
    """Environment variables with the version and revision of this program, for the provenance of the run.

    The uploaded code has neither package metadata nor a repository, so the cluster cannot determine them.
    """
    known = {VERSION: version("toscore"), REVISION: revision()}
    return {name: value for name, value in known.items() if value}
