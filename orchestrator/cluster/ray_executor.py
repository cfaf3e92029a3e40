"""Packs on the workers of a Ray cluster; the one file that knows Ray.

Workers are long-lived actors: a task that asks for a GPU would start a new process each time. Ray
restarts an actor that dies, but never repeats its work: who runs what again is decided in `state.py`.
Each actor answers on two threads, so that it can say how far it is, or that it lives, while it works.
"""

import logging
import os
import secrets
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, cast

import ray
from ray.actor import ActorHandle
from ray.exceptions import (
    ActorUnavailableError,
    GetTimeoutError,
    RayActorError,
    RayError,
    RayTaskError,
)
from ray.util.metrics import Counter, Gauge, Histogram

from orchestrator.cluster.token import HOW_TO_SET
from orchestrator.run_file.models import Resources
from orchestrator.scheduling.executor import ExecutorEvent, WorkerSlow, WorkersUnavailable
from orchestrator.scheduling.scheduler import Loss, PackFinished, WorkerJoined, WorkerLost
from orchestrator.scheduling.worker_health import Finding, Heartbeat, Limits, Verdict
from orchestrator.telemetry.observers import (
    Beat,
    ObservedEvent,
    RunFinished,
    Tally,
    TaskFailed,
    WorkerWent,
)
from workers.execution.worker import Worker, WorkerContext
from workers.problems.evaluation import Evaluation, worker_environment
from workers.tasks.results import TaskResult
from workers.tasks.tasks import Task

Answer = TypeVar("Answer")
MakeWorker = Callable[[WorkerContext, str], Worker]

TASK_SECONDS = [0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0]
"""Upper bounds of the histogram of task times."""

SURVEY_SECONDS = 2.0
"""How often new nodes are looked for and workers are asked how far they are."""

DOUBT_SECONDS = 20.0
"""Longer than a head takes to see that a node is gone, with the settings of the files in `deploy/`."""

WAITING_SECONDS = 10.0
"""Room for a worker that is not there by then is worth a word."""


@dataclass(frozen=True)
class ClusterSettings:
    address: str | None = None
    """`HOST:PORT` of a running cluster, `auto`, or None for one of our own in this machine."""
    resources: Resources = field(default_factory=Resources)
    limits: Limits = field(default_factory=Limits)
    """How long a worker may be silent, and a task at rest."""


class WorkerMetrics:
    """What Prometheus is told by a worker; every name begins with `ray_` there."""

    def __init__(self) -> None:
        self._told: dict[str, float] = {}
        self._counters = {
            "path_epochs": Counter("toscore_path_epochs", "Epochs of path optimisation."),
            "checkpoint_bytes": Counter(
                "toscore_checkpoint_bytes", "Bytes of checkpoints published."
            ),
            "idle_seconds": Counter("toscore_worker_idle_seconds", "Time of workers without work."),
        }
        self._seconds = Histogram(
            "toscore_task_seconds",
            "Time that a task took on its worker.",
            boundaries=TASK_SECONDS,
            tag_keys=("kind",),
        )

    def counted(self, counters: Mapping[str, float]) -> None:
        """Tell how much each counter has grown since the last call."""
        for name, value in counters.items():
            grown = value - self._told.get(name, 0.0)
            if grown > 0:
                self._counters[name].inc(grown)
                self._told[name] = value

    def finished(self, pack: Sequence[Task], seconds: float) -> None:
        """Tell how long the tasks of a pack took, each its share."""
        for task in pack:
            self._seconds.observe(seconds / len(pack), tags={"kind": type(task).__name__})


class DriverMetrics:
    """An observer: tasks by kind and state, workers present and lost."""

    def __init__(self, run: str, tally: Tally) -> None:
        self._run, self._tally = run, tally
        self._failed = dict.fromkeys(tally.done, 0)
        self._tasks = Gauge("toscore_tasks", "Tasks of a run.", tag_keys=("run", "kind", "state"))
        self._running = Gauge("toscore_tasks_running", "Tasks given to workers.", tag_keys=("run",))
        self._workers = Gauge("toscore_workers", "Workers that have joined.", tag_keys=("run",))
        self._lost = Counter("toscore_workers_lost", "Workers lost.", tag_keys=("run", "how"))

    def __call__(self, event: ObservedEvent) -> None:
        match event:
            case WorkerWent(how=how):
                self._lost.inc(tags={"run": self._run, "how": how})
            case TaskFailed(kind=kind):
                self._failed[kind] += 1
            case Beat() | RunFinished():
                self._tell()
            case _:
                pass

    def _tell(self) -> None:
        tally, run = self._tally, {"run": self._run}
        self._workers.set(tally.workers, tags=run)
        self._running.set(tally.running, tags=run)
        for kind in tally.done:
            states = {
                "total": tally.total(kind),
                "done": tally.finished(kind),
                "failed": self._failed[kind],
            }
            for state, count in states.items():
                self._tasks.set(count, tags={**run, "kind": kind, "state": state})


class _Actor:
    """The worker as Ray sees it."""

    def __init__(self, context: WorkerContext, name: str, make: MakeWorker) -> None:
        self._worker = make(context, name)
        self._metrics = WorkerMetrics()

    def node(self) -> str:
        return str(ray.get_runtime_context().get_node_id())

    def run(self, pack: list[Task]) -> tuple[list[TaskResult], float]:
        started = time.monotonic()
        results = self._worker.run(pack)
        seconds = time.monotonic() - started
        self._metrics.finished(pack, seconds)
        return results, seconds

    def progress(self) -> dict[str, float]:
        """Asked every few seconds, which is when the metrics are told as well."""
        self._metrics.counted(self._worker.counters())
        return dict(self._worker.progress())


@dataclass(frozen=True)
class _Doubt:
    """A worker that cannot be reached: its process may have died, or all of its node."""

    error: Exception
    since: float


@dataclass
class _Member:
    """What the driver knows of one actor."""

    name: str
    handle: ActorHandle
    node: str = ""
    joined: bool = False
    doubt: "_Doubt | None" = None
    asked: Any = None
    progress: dict[str, float] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    """Of the tasks that it was given, by key."""


def ask_a_worker(
    settings: ClusterSettings, question: Callable[..., Answer], *arguments: Any
) -> Answer:
    """What a plain function answers where a worker would run, with a worker's share of the node.

    Waits for room as a worker does, so that an autoscaler adds a node.

    Raises:
        WorkersUnavailable: no cluster, or the function failed there.
    """
    _connect(settings)
    gpus = _gpus_per_worker(settings.resources)
    variables = _environment(Evaluation())
    if not gpus:  # Ray hides no device from a task that asks for none
        variables["CUDA_VISIBLE_DEVICES"] = ""
    environment = {"env_vars": variables}
    # Its process is not used again: the device memory that it took goes with it.
    options = {"num_cpus": 1, "num_gpus": gpus, "max_calls": 1, "runtime_env": environment}
    asked = ray.remote(**options)(question).remote(*arguments)
    if not ray.wait([asked], timeout=WAITING_SECONDS)[0]:
        needs = f"1 CPU and {gpus:g} GPUs" if gpus else "1 CPU"
        print(f"Waiting for a node with {needs} free for a worker.", file=sys.stderr, flush=True)
    try:
        answer: Answer = ray.get(asked)
    except RayError as error:
        raise WorkersUnavailable(f"No worker can start: {_last_line(error)}") from None
    return answer


class RayExecutor:
    """Workers on a Ray cluster: an own one in this machine, or one that is running already.

    Raises:
        WorkersUnavailable: no cluster at the address, or the token was refused.
    """

    def __init__(
        self, context: WorkerContext, settings: ClusterSettings, make: MakeWorker = Worker
    ) -> None:
        """Args:
        context: for every worker.
        settings: of the cluster.
        make: a worker from the context and its name; another one in measurements of the driver.
        """
        self._context, self._settings, self._make = context, settings, make
        self._members: dict[str, _Member] = {}
        self._waiting: dict[Any, _Member] = {}
        self._asked_later: list[_Member] = []
        self._packs: dict[Any, str] = {}
        self._events: deque[ExecutorEvent] = deque()
        self._heartbeat = Heartbeat(settings.limits)
        self._surveyed = 0.0
        self._count = 0
        _connect(settings)
        self._gpus = _gpus_per_worker(settings.resources)
        self._remote = ray.remote(
            num_cpus=1,
            num_gpus=self._gpus,
            max_restarts=-1,
            max_task_retries=0,
            concurrency_groups={"word": 1},
            runtime_env={"env_vars": _environment(context.evaluation)},
        )(_Actor)
        self._grow()

    # The protocol.

    def submit(self, worker: str, pack: Sequence[Task]) -> None:
        member = self._members[worker]
        if member.doubt is not None:
            return  # it is about to be reported lost, this pack included
        member.kinds |= {task.key: type(task).__name__ for task in pack}
        self._packs[member.handle.run.remote(list(pack))] = worker

    def poll(self, timeout: float) -> list[ExecutorEvent]:
        self._survey()
        refs = [*self._packs, *self._waiting]
        if not refs:
            time.sleep(timeout)
        else:
            ready, _ = ray.wait(refs, num_returns=1, timeout=timeout)
            if ready:  # take along whatever else has come in meanwhile
                ready, _ = ray.wait(refs, num_returns=len(refs), timeout=0)
            for ref in ready:
                self._receive(ref)
        events = list(self._events)
        self._events.clear()
        return events

    def progress(self) -> Mapping[str, float]:
        return {key: share for m in self._members.values() for key, share in m.progress.items()}

    def close(self) -> None:
        for member in self._members.values():
            ray.kill(member.handle)
        ray.shutdown()

    # What comes back.

    def _receive(self, ref: Any) -> None:
        member = self._waiting.pop(ref, None)
        if member is not None:
            try:
                node = ray.get(ref)
            except RayActorError as error:
                if _could_not_start(error):
                    raise WorkersUnavailable(f"No worker can start: {_last_line(error)}") from None
                # It died while it started. Ray starts it again, and as long as there is no room for it, as
                # where its node went away, whatever it is asked fails at once: so not at once again.
                self._asked_later.append(member)
                return
            if member.doubt is not None:  # its process died, and was started again
                self._lose(member, _blame(member.doubt.error, member.node), member.doubt.error)
            member.joined, member.node = True, node
            self._events.append(WorkerJoined(member.name, node))
            return
        worker = self._packs.pop(ref, None)
        if worker is None:
            return  # another pack of a worker that was just reported lost
        try:
            results, seconds = ray.get(ref)
        except ActorUnavailableError as error:
            self._doubt(self._members[worker], error)
        except (RayActorError, RayTaskError, RayError) as error:
            member = self._members[worker]
            self._lose(member, _blame(error, member.node), error)
            self._expect(member)
        else:
            for result in results:
                self._members[worker].kinds.pop(result.key, None)
            self._events.append(PackFinished(worker, results, seconds))

    def _doubt(self, member: _Member, error: Exception) -> None:
        """Wait until it is known whether only its process went away, for which its pack is to blame.

        The connection to a node that loses its power breaks seconds before the node counts as lost.
        """
        self._forget_packs(member)
        member.doubt = _Doubt(error, time.monotonic())
        self._expect(member)

    def _settle_doubts(self, now: float) -> None:
        for member in [m for m in self._members.values() if m.doubt is not None]:
            doubt = cast(_Doubt, member.doubt)
            how = _blame(doubt.error, member.node)
            if how is Loss.PREEMPTED or now - doubt.since > DOUBT_SECONDS:
                self._lose(member, how, doubt.error)

    def _lose(self, member: _Member, how: Loss, error: Exception) -> None:
        self._forget_packs(member)
        member.doubt = None
        self._events.append(WorkerLost(member.name, how, _first_line(error)))

    def _forget_packs(self, member: _Member) -> None:
        for ref in [ref for ref, worker in self._packs.items() if worker == member.name]:
            self._packs.pop(ref)
        member.joined, member.asked, member.progress, member.kinds = False, None, {}, {}
        self._heartbeat.gone(member.name)

    def _expect(self, member: _Member) -> None:
        """It joins, at first or again, when it says on which node it is."""
        self._waiting[member.handle.node.options(concurrency_group="word").remote()] = member

    # Growth and health.

    def _survey(self) -> None:
        now = time.monotonic()
        if now - self._surveyed < SURVEY_SECONDS:
            return
        self._surveyed = now
        self._settle_doubts(now)
        self._ask_again()
        self._grow()
        for member in self._members.values():
            if not member.joined:
                continue
            if member.asked is not None:
                self._hear(member, now)
            if member.asked is None and member.joined:
                ask = member.handle.progress.options(concurrency_group="word")
                member.asked = ask.remote()
                self._heartbeat.asked(member.name, now)
        for verdict in self._heartbeat.verdicts(now):
            self._act_on(verdict)

    def _ask_again(self) -> None:
        """Where workers are that died while they started.

        Raises:
            WorkersUnavailable: in a cluster of our own, whose only node has gone: nobody will start them.
        """
        if not self._asked_later:
            return
        if self._settings.address is None and not any(n["Alive"] for n in ray.nodes()):
            raise WorkersUnavailable(
                "The Ray cluster that this run had started has gone down; run the same command again."
            )
        for member in self._asked_later:
            self._expect(member)
        self._asked_later.clear()

    def _hear(self, member: _Member, now: float) -> None:
        try:
            member.progress = ray.get(member.asked, timeout=0)
        except GetTimeoutError:
            return
        except RayError:  # its pack comes back with the error
            self._heartbeat.gone(member.name)
        else:
            self._heartbeat.heard(member.name, member.progress, member.kinds, now)
        member.asked = None

    def _act_on(self, verdict: Verdict) -> None:
        if verdict.finding is Finding.SLOW:
            self._events.append(WorkerSlow(verdict.worker, verdict.key, verdict.seconds))
            return
        member = self._members[verdict.worker]
        ray.kill(member.handle, no_restart=False)
        what = "no answer" if verdict.finding is Finding.SILENT else "no step forward"
        self._lose(member, Loss.STALLED, TimeoutError(f"{what} for {verdict.seconds:.0f} s"))
        self._expect(member)

    def _grow(self) -> None:
        """As many actors as the cluster has room for, or as many as the run file asks for.

        Actors beyond the present room stay pending, which is what makes an autoscaler add nodes.
        """
        wanted = self._settings.resources.workers
        if wanted == "auto":
            resources = ray.cluster_resources()
            if self._gpus:
                wanted = int(resources.get("GPU", 0.0) / self._gpus)
            else:
                wanted = int(resources.get("CPU", 1.0))
        while len(self._members) < max(1, wanted):
            name = f"worker-{self._count}"
            self._count += 1
            member = _Member(name, self._remote.remote(self._context, name, self._make))
            self._members[name] = member
            self._expect(member)


def _gpus_per_worker(resources: Resources) -> float:
    if resources.gpus_per_worker == "auto":
        return 1.0 if ray.cluster_resources().get("GPU", 0.0) else 0.0
    return float(resources.gpus_per_worker)


def _connect(settings: ClusterSettings) -> None:
    if ray.is_initialized():
        return
    common: dict[str, Any] = {
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        "namespace": f"toscore-{secrets.token_hex(4)}",
    }
    if settings.address is None:
        workers = settings.resources.workers
        count = os.cpu_count() or 1 if workers == "auto" else workers
        ray.init(num_cpus=count, include_dashboard=False, **common)
        return
    _refuse_silence(settings.address)
    try:
        ray.init(address=settings.address, **common)
    except (ConnectionError, RayError, RuntimeError, ValueError) as error:
        text = str(error).lower()
        # Somebody listens at an address that was named; who has the wrong token is told no more by Ray.
        refused = settings.address != "auto" and isinstance(error, ConnectionError)
        hint = (
            HOW_TO_SET
            if refused or "auth" in text or "token" in text
            else "check that its head runs (`ray status`)"
        )
        raise WorkersUnavailable(
            f"No Ray cluster can be used at {settings.address}: {hint}."
        ) from error


def _refuse_silence(address: str) -> None:
    """Say at once that nobody listens at HOST:PORT; Ray would try for a minute and a half."""
    host, _, port = address.rpartition(":")
    if not port.isdigit() or "/" in host:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except OSError as error:
        raise WorkersUnavailable(
            f"No Ray cluster can be used at {address}: nobody answers there "
            f"({error.strerror or error}); check that its head runs (`ray status`)."
        ) from None


def _environment(evaluation: Evaluation) -> dict[str, str]:
    """Threads and memory of a worker are settled by its environment, before torch is imported.

    A user's `module:callable` is looked for where the driver looks for it.
    """
    path = os.pathsep.join(dict.fromkeys([os.getcwd(), *(p for p in sys.path if p)]))
    return {**worker_environment(evaluation), "PYTHONPATH": path}


def _blame(error: Exception, node: str) -> Literal[Loss.CRASHED, Loss.PREEMPTED]:
    if getattr(error, "preempted", False):
        return Loss.PREEMPTED
    alive = {n["NodeID"] for n in ray.nodes() if n["Alive"]}
    return Loss.CRASHED if node in alive else Loss.PREEMPTED


def _could_not_start(error: RayActorError) -> bool:
    return bool(getattr(error, "actor_init_failed", False)) or "creation task" in str(error)


def _first_line(error: Exception) -> str:
    return next(
        (line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__
    )


def _last_line(error: Exception) -> str:
    """Where the worker's own traceback says what went wrong."""
    return [line.strip() for line in str(error).splitlines() if line.strip()][-1]
