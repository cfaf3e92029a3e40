"""Connecting to a Ray cluster: one that runs already, or one of our own in this machine."""

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
from workers.problems.user_code import code_folders, look_in

Answer = TypeVar("Answer")

WAITING_SECONDS = 10.0
"""Time without room for a worker after which a message says what the run waits for."""

_VERSIONS = re.compile(r"Ray: (\S+)\s+Python: (\S+)")
"""The two pairs of versions in Ray's message about a mismatch: the cluster's, then ours."""

_ANSWER_SECONDS = 10.0
"""Time in which a head that listens accepts a connection, over any network."""


@dataclass(frozen=True)
class ClusterSettings:
    """Which cluster, and how much of it."""

    address: str | None = None
    """`HOST:PORT` of a running cluster, `auto`, or None for one of our own in this machine."""
    resources: Resources = field(default_factory=Resources)
    limits: Limits = field(default_factory=Limits)
    """How long a worker may be silent, and a task without progress."""


_OURS: set[str] = set()
"""Namespaces of connections that `connect` made; one that the caller of our API made stays open."""


class _JobConfig(JobConfig):  # type: ignore[misc]
    """Workers import the packages of their own installation, and this program from the driver's folder.

    Ray would put the driver's current folder in front of their import path, where a `yaml.py` of the user's
    would replace a library. Workers look for the user's modules after everything else
    (`WorkerContext.code_folders`). Ray asks this method, which is private, for nothing else.
    """

    def __init__(self) -> None:
        root = Path(__file__).resolve().parents[2]
        from_source = not {"site-packages", "dist-packages"} & set(root.parts)
        super().__init__(_py_driver_sys_path=[str(root)] if from_source else [])

    def _runtime_env_has_working_dir(self) -> bool:
        return True


def connect(settings: ClusterSettings) -> None:
    """Connect this process to the cluster, unless it is connected.

    Raises:
        WorkersUnavailable: no cluster at the address, or the token was refused.
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
        # "local": RAY_ADDRESS in the environment would otherwise name somebody else's cluster.
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
        # A head listens at this address; if the token is wrong, Ray says only that it cannot connect.
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
    """Close the connection if `connect` made it; a cluster of our own ends with it."""
    if ray.is_initialized() and ray.get_runtime_context().namespace in _OURS:
        _OURS.clear()
        ray.shutdown()


def _refuse_silence(address: str) -> None:
    """Raise at once if nothing listens at HOST:PORT; Ray would try for a minute and a half."""
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
    """Nodes that drain: preempted by a cloud, idle for an autoscaler, or drained by hand.

    Ray offers this to its own libraries only; where it cannot be asked, no node is known to drain.
    """
    with contextlib.suppress(Exception):
        return frozenset(ray._private.state.state.get_draining_nodes())
    return frozenset()


def gpus_per_worker(resources: Resources) -> float:
    """GPUs that one worker is given.

    `auto` takes a GPU where the cluster has one, or where its autoscaler can add one. In a cluster without
    nodes for workers neither can be known: then a node is asked for, waited for, and looked at.
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
    """Whether the autoscaler knows node types with a resource; false where it does not report any.

    Ray offers this to its own libraries only.
    """
    with contextlib.suppress(Exception):
        most = ray._private.state.state.get_max_resources_from_cluster_config()
        return bool((most or {}).get(resource, 0) > 0)
    return False


def _awaited(asked: Any, needs: str) -> Any:
    """The reference to an answer, once it is there; a long wait is reported to the user."""
    if not ray.wait([asked], timeout=WAITING_SECONDS)[0]:
        print(f"Waiting for a node with {needs} free for a worker.", file=sys.stderr, flush=True)
        ray.wait([asked])
    return asked


def environment(evaluation: Evaluation, gpus: float) -> dict[str, str]:
    """Threads and memory of a worker are set by its environment, before torch is imported.

    Args:
        evaluation: of the run.
        gpus: that the worker has; of a fraction, its memory budget is the same fraction.
    """
    share = {GPU_SHARE: str(gpus)} if 0 < gpus < 1 else {}
    return {**worker_environment(evaluation), **share}


def _in_folders(folders: Sequence[str], question: Callable[..., Answer], *arguments: Any) -> Answer:
    """What a function returns in a process that looks for the user's modules in these folders."""
    for folder in folders:
        look_in(Path(folder))
    return question(*arguments)


def ask_a_worker(
    settings: ClusterSettings, question: Callable[..., Answer], *arguments: Any
) -> Answer:
    """What a plain function returns where a worker would run, with a worker's share of the node.

    Waits for room as a worker does, so that an autoscaler adds a node.

    Raises:
        WorkersUnavailable: no cluster, or the function failed there.
    """
    connect(settings)
    gpus = gpus_per_worker(settings.resources)
    variables = environment(Evaluation(), gpus)
    if not gpus:  # Ray hides no device from a task that asks for none
        variables["CUDA_VISIBLE_DEVICES"] = ""
    # Its process is not used again: the device memory that it took is freed with it.
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
