"""Connects to a Ray cluster: one that is already running, or one that this process starts on this machine."""

import contextlib
import logging
import os
import re
import secrets
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError
from ray.job_config import JobConfig

from orchestrator.cluster.blame import cause
from orchestrator.cluster.token import HOW_TO_SET
from orchestrator.run_file.groups import Resources
from orchestrator.scheduling.executor import WorkersUnavailable
from orchestrator.scheduling.worker_health import Limits
from workers.problems.evaluation import GPU_SHARE, Evaluation, worker_environment
from workers.problems.user_code import add_code_folder, code_folders

Answer = TypeVar("Answer")

WAITING_SECONDS = 10.0
"""Seconds without room for a worker after which a message says what the run waits for."""

_VERSIONS = re.compile(r"Ray: (\S+)\s+Python: (\S+)")
"""Matches the two pairs of versions in Ray's message about a mismatch: the cluster's, then this process's."""

_ANSWER_SECONDS = 10.0
"""Timeout in seconds for a connection to a head node; one that listens accepts it sooner over any network."""


@dataclass(frozen=True)
class ClusterSettings:
    """Which cluster to use, and how much of it."""

    address: str | None = None
    """`HOST:PORT` of a running cluster, `auto`, or None to start a cluster on this machine."""
    resources: Resources = field(default_factory=Resources)
    limits: Limits = field(default_factory=Limits)
    """Limits for the time without an answer of a worker, and without progress of a task."""


_OURS: set[str] = set()
"""Namespaces of the connections that `connect` has made. `disconnect` leaves a connection of the caller
open."""


class _JobConfig(JobConfig):  # type: ignore[misc]
    """Sets the import path of workers: their own installation, and the source folder of this program.

    By default Ray puts the driver's current folder first on the import path of workers, where a file
    `yaml.py` of the user would replace a library. Workers look for the user's modules after everything else
    (`WorkerContext.code_folders`). Overriding the private method below stops Ray from adding the folder; Ray
    uses it for nothing else.
    """

    def __init__(self) -> None:
        root = Path(__file__).resolve().parents[2]
        from_source = not {"site-packages", "dist-packages"} & set(root.parts)
        super().__init__(_py_driver_sys_path=[str(root)] if from_source else [])

    def _runtime_env_has_working_dir(self) -> bool:
        return True


def connect(settings: ClusterSettings) -> None:
    """Connect this process to the cluster, unless it is connected already.

    Raises:
        WorkersUnavailable: there is no cluster at the address, its versions differ, or it refuses the token.
    """
    if ray.is_initialized():
        return
    common: dict[str, Any] = {
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        "job_config": _JobConfig(),
        "namespace": f"toscore-{secrets.token_hex(4)}",
    }
    if settings.address is None:
        workers = settings.resources.workers
        count = os.cpu_count() or 1 if workers == "auto" else workers
        # "local" makes Ray ignore RAY_ADDRESS in the environment, which may name another cluster.
        ray.init(address="local", num_cpus=count, include_dashboard=False, **common)
        _OURS.add(common["namespace"])
        return
    _refuse_silence(settings.address)
    try:
        ray.init(address=settings.address, **common)
    except (ConnectionError, RayError, RuntimeError, ValueError) as error:
        text = str(error).lower()
        if "version mismatch" in text:
            theirs, ours = [*_VERSIONS.findall(str(error)), ("?", "?"), ("?", "?")][:2]
            raise WorkersUnavailable(
                f"The Ray cluster at {settings.address} has Ray {theirs[0]} and Python {theirs[1]}, and this "
                f"process Ray {ours[0]} and Python {ours[1]}: install the same versions on both."
            ) from None
        # A head node listens at this address; if the token is wrong, Ray reports only that it cannot connect.
        refused = settings.address != "auto" and isinstance(error, ConnectionError)
        hint = (
            HOW_TO_SET
            if refused or "auth" in text or "token" in text
            else "check that its head runs (`ray status`)"
        )
        raise WorkersUnavailable(
            f"No Ray cluster can be used at {settings.address}: {hint}."
        ) from error
    _OURS.add(common["namespace"])


def disconnect() -> None:
    """Close the connection if `connect` made it; a cluster that this process started ends with it."""
    if ray.is_initialized() and ray.get_runtime_context().namespace in _OURS:
        _OURS.clear()
        ray.shutdown()


def _refuse_silence(address: str) -> None:
    """Raise at once if nothing listens at HOST:PORT; Ray would try for a minute and a half.

    Raises:
        WorkersUnavailable: nothing listens there.
    """
    host, _, port = address.rpartition(":")
    if not port.isdigit() or "/" in host:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_SECONDS).close()
    except OSError as error:
        raise WorkersUnavailable(
            f"No Ray cluster can be used at {address}: nothing answers there "
            f"({error.strerror or error}); check that its head runs (`ray status`)."
        ) from None


def draining_nodes() -> frozenset[str]:
    """Identifiers of the nodes that drain: preempted by a cloud, idle for an autoscaler, or drained by hand.

    Ray has only a private function for this. If it is missing or fails, the result is empty.
    """
    with contextlib.suppress(Exception):
        return frozenset(ray._private.state.state.get_draining_nodes())
    return frozenset()


def gpus_per_worker(resources: Resources) -> float:
    """The number of GPUs of one worker, which may be a fraction.

    `auto` means one GPU if the cluster has one or its autoscaler can add one, else none. If a cluster has no
    nodes for workers yet, this starts a small task, waits until a node is added for it, and looks whether it
    has a GPU.
    """
    if resources.gpus_per_worker != "auto":
        return float(resources.gpus_per_worker)
    if _has("GPU") or _can_be_added("GPU"):
        return 1.0
    if not _has("CPU"):
        asked = ray.remote(num_cpus=1, max_calls=1)(os.getpid).remote()
        ray.get(_awaited(asked, "1 CPU"))
    return 1.0 if _has("GPU") else 0.0


def _has(resource: str) -> bool:
    return bool(ray.cluster_resources().get(resource, 0.0) > 0.0)


def _can_be_added(resource: str) -> bool:
    """Whether the autoscaler has node types with a resource; False if it does not report any.

    Ray has only a private function for this.
    """
    with contextlib.suppress(Exception):
        most = ray._private.state.state.get_max_resources_from_cluster_config()
        return bool((most or {}).get(resource, 0) > 0)
    return False


def _awaited(asked: Any, needs: str) -> Any:
    """Wait until the answer to a reference is ready, and return the reference; report a long wait."""
    if not ray.wait([asked], timeout=WAITING_SECONDS)[0]:
        print(f"Waiting for a node with {needs} free for a worker.", file=sys.stderr, flush=True)
        ray.wait([asked])
    return asked


def environment(evaluation: Evaluation, gpus: float) -> dict[str, str]:
    """The environment variables of a worker: they set its threads and memory before torch is imported.

    Args:
        evaluation: of the run.
        gpus: of the worker. With a fraction of a GPU, its memory budget is the same fraction of the GPU's
            memory.
    """
    share = {GPU_SHARE: str(gpus)} if 0 < gpus < 1 else {}
    return {**worker_environment(evaluation), **share}


def _in_folders(folders: Sequence[str], question: Callable[..., Answer], *arguments: Any) -> Answer:
    """Call a function after adding folders in which the process looks for the user's modules."""
    for folder in folders:
        add_code_folder(Path(folder))
    return question(*arguments)


def ask_a_worker(
    settings: ClusterSettings, question: Callable[..., Answer], *arguments: Any
) -> Answer:
    """Call a function where a worker would run, with the CPU and GPUs of a worker, and return its result.

    It waits for room as a worker does, so an autoscaler adds a node.

    Args:
        settings: of the cluster.
        question: the function.
        arguments: of the function.

    Raises:
        WorkersUnavailable: there is no cluster, or the function raised.
    """
    connect(settings)
    gpus = gpus_per_worker(settings.resources)
    variables = environment(Evaluation(), gpus)
    if not gpus:  # Ray does not hide GPUs from a task that requests none
        variables["CUDA_VISIBLE_DEVICES"] = ""
    # max_calls=1 ends the process after the call, which frees the GPU memory that it used.
    options = {
        "num_cpus": 1,
        "num_gpus": gpus,
        "max_calls": 1,
        "runtime_env": {"env_vars": variables},
    }
    asked = ray.remote(**options)(_in_folders).remote(code_folders(), question, *arguments)
    try:
        answer: Answer = ray.get(_awaited(asked, f"1 CPU and {gpus:g} GPUs" if gpus else "1 CPU"))
    except RayError as error:
        raise WorkersUnavailable(f"No worker can start: {cause(error)}") from None
    return answer
