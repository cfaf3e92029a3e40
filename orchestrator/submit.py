"""`toscore submit`: run a run file on a cluster through Ray's Jobs API, from a machine outside it.

What is submitted is the command `toscore run FILE --address auto`, which the head node carries out. It
takes the run's lease like any other driver, and goes on from what the store holds. So submitting again is
how a run is continued, each time under a new submission id, and a second submission at the same time
leaves with the sentence that says who holds the run.

Store credentials are never sent: Ray keeps what a job is given where the dashboard shows it. The cluster's
nodes have their own.
"""

import asyncio
import contextlib
import logging
import os
import secrets
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import aiohttp
from ray.exceptions import AuthenticationError, RayError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

import orchestrator
import topo_core
import workers
from orchestrator.cluster.token import HOW_TO_SET
from orchestrator.run_file.errors import BadRunFile, UserError
from orchestrator.run_file.reading import load
from orchestrator.runs.provenance import REVISION, VERSION, revision, version
from orchestrator.studies.study import PREFIX, is_study, load_study

RECONNECT_SECONDS = 60.0
"""How long the head may be out of reach before we stop following; the run goes on without us."""

_TALKATIVE = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.authentication.http_token_authentication",
    "ray._private.runtime_env.packaging",
)
"""Modules of Ray that log what is no news to the user, each at a level of its own."""

_UNREACHABLE = (OSError, RuntimeError, RayError, aiohttp.ClientError)


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
        client = _client(address)
        command = ["python", "-m", "orchestrator", "run", path, "--address", "auto"]
        for override in overrides:
            command += ["--set", override]
        environment = {"working_dir": str(folder), "env_vars": _origin()}
        if ship:
            packages = (topo_core, workers, orchestrator)
            environment["py_modules"] = [str(Path(p.__file__ or "").parent) for p in packages]
        try:
            client.submit_job(
                entrypoint=shlex.join(command),
                submission_id=job,
                runtime_env=environment,
                metadata={"run": location},
            )
        except (*_UNREACHABLE, ValueError) as error:
            raise UserError(f"{address} did not take the job: {_brief(error)}") from None
    print(
        f"Submitted as {job}; `{_ask(file, overrides, location)}` tells how far it is.",
        file=sys.stderr,
    )
    if detach:
        return 0
    try:
        return _exit_code(_follow(client, job, say), address)
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


def _client(address: str) -> JobSubmissionClient:
    if not address.startswith(("http://", "https://")):
        raise UserError(
            f"--address is {address!r}; a job is submitted to the head's dashboard, http://HOST:8265."
        )
    # Ray would follow these rather than what was asked for.
    for variable in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        os.environ.pop(variable, None)
    for module in _TALKATIVE:
        logging.getLogger(module).setLevel(logging.ERROR)
    try:
        return JobSubmissionClient(address)
    except AuthenticationError as error:
        what = "refused our token" if "Forbidden" in str(error) else "asks for a token"
        raise UserError(f"The cluster at {address} {what}: {HOW_TO_SET}.") from None
    except ConnectionError:
        raise UserError(
            f"No Ray head answers at {address}: check the address, and that its dashboard listens there "
            "(`ray start --head --dashboard-host=…`, or a port-forward to it)."
        ) from None
    except (*_UNREACHABLE, ValueError, KeyError) as error:
        raise UserError(f"{address} is no Ray dashboard that takes jobs: {_brief(error)}") from None


def _follow(client: JobSubmissionClient, job: str, say: Callable[[str], None]) -> JobDetails:
    """Print the log until the job has ended, through interruptions of the connection."""
    printed = 0
    lost_at: float | None = None
    while True:
        try:
            for piece in _pieces(client, job, printed):
                printed += len(piece)
                say(piece)
                lost_at = None
            details = client.get_job_info(job)
            if JobStatus(details.status).is_terminal():
                rest = client.get_job_logs(job)[printed:]
                if rest:
                    say(rest)
                return details
            lost_at = None
        except _UNREACHABLE as error:
            now = time.monotonic()
            lost_at = now if lost_at is None else lost_at
            if now - lost_at > RECONNECT_SECONDS:
                raise UserError(
                    f"The head has not answered for {RECONNECT_SECONDS:.0f} s ({_brief(error)}): see "
                    f"whether the cluster is up, and submit again to go on."
                ) from None
        time.sleep(0.5)


def _pieces(client: JobSubmissionClient, job: str, skip: int) -> Iterator[str]:
    """The log as it comes, without the first `skip` characters."""
    pieces = client.tail_job_logs(job)
    with asyncio.Runner() as runner:
        while True:
            try:
                piece = runner.run(anext(pieces))
            except StopAsyncIteration:
                return
            if skip:
                skip, piece = max(0, skip - len(piece)), piece[skip:]
            if piece:
                yield piece


def _exit_code(details: JobDetails, address: str) -> int:
    if details.status == JobStatus.SUCCEEDED:
        return 0
    if details.status == JobStatus.STOPPED:
        return 130
    if details.driver_exit_code is None:
        raise UserError(
            f"{address} could not start the job: {' '.join((details.message or '').split())}"
        )
    code: int = details.driver_exit_code
    return 128 - code if code < 0 else code


def _brief(error: Exception) -> str:
    """The first line of what went wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0][:300]
