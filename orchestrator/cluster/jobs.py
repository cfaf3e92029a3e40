"""Submits a job to a Ray cluster through Ray's Jobs API, and follows its log until it ends."""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import aiohttp
from ray.exceptions import AuthenticationError, RayError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from orchestrator.cluster.token import HOW_TO_SET
from orchestrator.run_file.errors import TryAgain, UserError

RECONNECT_SECONDS = 60.0
"""Seconds for which the head node may be unreachable before following the log ends; the job itself
continues."""

_STATUS_SECONDS = 0.5
"""Seconds between two reads of the status of a job."""

_TALKATIVE = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.authentication.http_token_authentication",
    "ray._private.runtime_env.packaging",
)
"""Modules of Ray whose log messages are not useful to the user; each sets a log level of its own."""

_UNREACHABLE = (OSError, RuntimeError, RayError, aiohttp.ClientError)


class Jobs:
    """The jobs of a cluster.

    Args:
        address: of the dashboard of the head node, `http://HOST:8265`.

    Raises:
        UserError: there is no dashboard at the address, or it refuses the token.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._client = _client(address)

    def submit(self, job: str, entrypoint: str, environment: Mapping[str, Any], run: str) -> None:
        """Submit a job.

        Args:
            job: submission id of the job.
            entrypoint: the command to run.
            environment: Ray's runtime environment.
            run: location of the run, shown with the job in Ray's dashboard.

        Raises:
            UserError: the cluster did not accept the job.
        """
        try:
            self._client.submit_job(
                entrypoint=entrypoint,
                submission_id=job,
                runtime_env=dict(environment),
                metadata={"run": run},
            )
        except (*_UNREACHABLE, ValueError) as error:
            raise UserError(f"{self._address} did not take the job: {_brief(error)}") from None

    def follow(self, job: str, say: Callable[[str], None]) -> int:
        """Print the log until the job has ended; a lost connection is opened again.

        Args:
            job: submission id of the job.
            say: prints a piece of the log.

        Returns:
            The exit code of the job's command.

        Raises:
            TryAgain: the head node has not answered for `RECONNECT_SECONDS`, or has lost the job.
            UserError: the head node could not start the job.
        """
        printed = 0
        lost_at: float | None = None
        while True:
            try:
                for piece in self._pieces(job, printed):
                    printed += len(piece)
                    say(piece)
                    lost_at = None
                details = self._client.get_job_info(job)
                if JobStatus(details.status).is_terminal():
                    rest = self._client.get_job_logs(job)[printed:]
                    if rest:
                        say(rest)
                    return self._exit_code(details)
                lost_at = None
            except _UNREACHABLE as error:
                now = time.monotonic()
                lost_at = now if lost_at is None else lost_at
                if now - lost_at > RECONNECT_SECONDS:
                    raise TryAgain(
                        f"The head has not answered for {RECONNECT_SECONDS:.0f} s ({_brief(error)}): "
                        "check that the cluster is up, and submit again to go on."
                    ) from None
            time.sleep(_STATUS_SECONDS)

    def _pieces(self, job: str, skip: int) -> Iterator[str]:
        """Yield pieces of the log as they arrive, without the first `skip` characters."""
        pieces = self._client.tail_job_logs(job)
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

    def _exit_code(self, details: JobDetails) -> int:
        if details.status == JobStatus.SUCCEEDED:
            return 0
        if details.status == JobStatus.STOPPED:
            return 130
        if details.driver_exit_code is None:
            message = " ".join((details.message or "").split())
            raise UserError(f"{self._address} could not start the job: {message}")
        code: int = details.driver_exit_code
        return 128 - code if code < 0 else code


def _client(address: str) -> JobSubmissionClient:
    if not address.startswith(("http://", "https://")):
        raise UserError(
            f"--address is {address!r}; a job is submitted to the head's dashboard, http://HOST:8265."
        )
    # Ray would use these variables in place of the address that was passed.
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


def _brief(error: Exception) -> str:
    """The first line of an error message, at most 300 characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0][:300]
