"""Packs of tasks on the workers of a Ray cluster.

Workers are long-lived actors: a task that asks for a GPU would start a new process each time. Ray restarts
an actor that dies, but never repeats its work: the scheduler decides which worker repeats it. Each actor
answers on two threads, so that it reports its progress while it works.
"""

import contextlib
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, cast

import ray
from ray.exceptions import (
    ActorUnavailableError,
    GetTimeoutError,
    RayActorError,
    RayError,
    RayTaskError,
)

from orchestrator.cluster.blame import cause, cause_of_loss, could_not_start
from orchestrator.cluster.connection import (
    ClusterSettings,
    connect,
    disconnect,
    draining_nodes,
    environment,
    gpus_per_worker,
)
from orchestrator.cluster.members import Doubt, MakeWorker, Member, StartFailures, WorkerActor
from orchestrator.cluster.shared_data import SharedData
from orchestrator.scheduling.executor import (
    ClusterGone,
    ExecutorEvent,
    WorkerSlow,
    WorkersUnavailable,
)
from orchestrator.scheduling.messages import Loss, PackFinished, WorkerJoined, WorkerLost
from orchestrator.scheduling.worker_health import Finding, Verdict, WorkerHealth
from workers.execution.worker import Worker, WorkerContext
from workers.problems.data_sets import Dataset, load_dataset
from workers.tasks.specs import DataSpec
from workers.tasks.task import Task

SURVEY_SECONDS = 2.0
"""Time between two searches for new nodes, and between two questions for the progress of workers."""

LEAVE_SECONDS = 10.0
"""Time of running tasks to publish a checkpoint when the run is interrupted: less than the 30 s that
Kubernetes and Slurm leave after SIGTERM. What takes longer goes on from a checkpoint that is a minute old."""

DOUBT_SECONDS = 20.0
"""Longer than a head takes to notice a lost node, with the settings of the files in `deploy/`."""


class RayExecutor:
    """Workers on a Ray cluster: an own one in this machine, or one that is running already.

    Raises:
        WorkersUnavailable: no cluster at the address, or the token was refused.
    """

    def __init__(
        self,
        context: WorkerContext,
        settings: ClusterSettings,
        make: MakeWorker = Worker,
        *,
        data: tuple[DataSpec, Dataset] | None = None,
    ) -> None:
        """Args:
        context: for every worker.
        settings: of the cluster.
        make: a worker from the context, its name and whether it was asked to stop; another one in tests.
        data: of the run, as the driver has loaded them, so that workers do not load them again.
        """
        self._context, self._settings, self._make = context, settings, make
        self._members: dict[str, Member] = {}
        self._waiting: dict[Any, Member] = {}
        self._asked_later: list[Member] = []
        self._packs: dict[Any, str] = {}
        self._events: deque[ExecutorEvent] = deque()
        self._health = WorkerHealth(settings.limits)
        self._starts = StartFailures()
        self._surveyed = 0.0
        self._count = 0
        self._open_tasks: float = float("inf")
        connect(settings)
        self._load_data = load_dataset if data is None else SharedData(*data)
        self._gpus = gpus_per_worker(settings.resources)
        self._remote = ray.remote(
            num_cpus=1,
            num_gpus=self._gpus,
            max_restarts=-1,
            max_task_retries=0,
            concurrency_groups={"answers": 1},
            runtime_env={"env_vars": environment(context.evaluation, self._gpus)},
        )(WorkerActor)
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

    def replace(self, worker: str, *, start_again: bool) -> None:
        member = self._members[worker]
        self._forget_packs(member)
        member.doubt = None
        ray.kill(member.handle, no_restart=not start_again)
        if start_again:
            self._expect(member)

    def retire(self, worker: str) -> None:
        member = self._members.pop(worker)
        self._forget_packs(member)
        ray.kill(member.handle)

    def want(self, tasks: int) -> None:
        self._open_tasks = tasks

    def close(self) -> None:
        self._interrupt()
        for member in self._members.values():
            ray.kill(member.handle)
        disconnect()

    def _interrupt(self) -> None:
        """Let running tasks publish their checkpoints, for a limited time."""
        running = {worker: ref for ref, worker in reversed(self._packs.items())}
        for worker in running:
            member = self._members[worker]
            if not member.leaving:
                member.handle.leave.options(concurrency_group="answers").remote()
        if running:
            with contextlib.suppress(RayError):
                ray.wait([*running.values()], num_returns=len(running), timeout=LEAVE_SECONDS)

    # Answers of the actors.

    def _receive(self, ref: Any) -> None:
        member = self._waiting.pop(ref, None)
        if member is not None:
            try:
                node = ray.get(ref)
            except RayActorError as error:
                if could_not_start(error):
                    self._start_failed(member, cause(error))
                    return
                # It died while it started. Ray starts it again. Until there is room for it (its node may
                # have left), every question fails at once: so it is asked again at the next survey.
                self._asked_later.append(member)
                return
            if (
                node in draining_nodes()
            ):  # the process that is about to end, or a node that is about to leave
                self._asked_later.append(member)
                return
            if member.doubt is not None:  # its process died, and was started again
                self._lose(
                    member, cause_of_loss(member.doubt.error, member.node), member.doubt.error
                )
            member.joined, member.node = True, node
            self._starts.started(member.name)
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
            if member.leaving:
                self._move(member)
                return
            self._lose(member, cause_of_loss(error, member.node), error)
            self._expect(member)
        else:
            for result in results:
                self._members[worker].kinds.pop(result.key, None)
            self._events.append(PackFinished(worker, results, seconds))

    def _start_failed(self, member: Member, reason: str) -> None:
        """Its constructor raised, so Ray will not start it again by itself.

        Raises:
            WorkersUnavailable: no other worker works or can be hoped for.
        """
        again = self._starts.failed(member.name)
        others = [m for m in self._members.values() if m is not member]
        if not any(m.joined or not self._starts.has_failed(m.name) for m in others):
            raise WorkersUnavailable(f"No worker can start: {reason}")
        cause_of_failure = f"it could not start: {reason}"
        self._events.append(WorkerLost(member.name, Loss.CRASHED, cause_of_failure))
        if again:
            member.handle = self._remote.remote(self._context, member.name, self._make)
            self._expect(member)

    def _leave_draining_nodes(self) -> None:
        """Stop workers on draining nodes at their next checkpoint, and start them on other nodes."""
        draining = draining_nodes()
        for member in self._members.values():
            if member.joined and not member.leaving and member.node in draining:
                member.leaving = True
                if member.name in self._packs.values():
                    member.handle.leave.options(concurrency_group="answers").remote()
                else:
                    self._move(member)

    def _move(self, member: Member) -> None:
        """Start a worker anew; Ray places nothing on a node that drains."""
        ray.kill(member.handle, no_restart=False)
        member.leaving = False
        self._lose(member, Loss.PREEMPTED, RuntimeError("its node is being drained"))
        self._expect(member)

    def _doubt(self, member: Member, error: Exception) -> None:
        """Wait until it is known whether only its process has ended, for which its pack may be the cause.

        The connection to a node that loses its power breaks seconds before the node counts as lost.
        """
        self._forget_packs(member)
        member.doubt = Doubt(error, time.monotonic())
        self._expect(member)

    def _settle_doubts(self, now: float) -> None:
        for member in [m for m in self._members.values() if m.doubt is not None]:
            doubt = cast(Doubt, member.doubt)
            how = cause_of_loss(doubt.error, member.node)
            if how is Loss.PREEMPTED or now - doubt.since > DOUBT_SECONDS:
                self._lose(member, how, doubt.error)

    def _lose(self, member: Member, how: Loss, error: Exception) -> None:
        self._forget_packs(member)
        member.doubt = None
        self._events.append(WorkerLost(member.name, how, cause(error)))

    def _forget_packs(self, member: Member) -> None:
        for ref in [ref for ref, worker in self._packs.items() if worker == member.name]:
            self._packs.pop(ref)
        member.joined, member.asked, member.progress, member.kinds = False, None, {}, {}
        self._health.lost(member.name)

    def _expect(self, member: Member) -> None:
        """The worker joins once it answers with the node on which it runs."""
        join = member.handle.join.options(concurrency_group="answers")
        self._waiting[join.remote(self._load_data)] = member

    # Growth and health.

    def _wanted(self) -> int:
        """The number of workers in the run file; for `auto`, what fits, and on a cluster of others twice as
        many as have joined, so that an autoscaler adds nodes as long as it can."""
        wanted = self._settings.resources.workers
        if wanted != "auto":
            return wanted
        resource, share = ("GPU", self._gpus) if self._gpus else ("CPU", 1.0)
        room = int(ray.cluster_resources().get(resource, 0.0) / share)
        if self._settings.address is None:
            return room
        joined = sum(member.joined for member in self._members.values())
        return max(room, 1, 2 * joined)

    def _survey(self) -> None:
        now = time.monotonic()
        if now - self._surveyed < SURVEY_SECONDS:
            return
        self._surveyed = now
        self._settle_doubts(now)
        self._ask_again()
        self._leave_draining_nodes()
        self._grow()
        for member in self._members.values():
            if not member.joined:
                continue
            if member.asked is not None:
                self._hear(member, now)
            if member.asked is None and member.joined:
                ask = member.handle.progress.options(concurrency_group="answers")
                member.asked = ask.remote()
                self._health.asked(member.name, now)
        for verdict in self._health.verdicts(now):
            self._act_on(verdict)

    def _ask_again(self) -> None:
        """Ask workers that died while they started on which node they are.

        Raises:
            ClusterGone: in a cluster of our own, whose only node has gone: they never will start.
        """
        if not self._asked_later:
            return
        if self._settings.address is None and not any(n["Alive"] for n in ray.nodes()):
            raise ClusterGone("The Ray cluster that this run had started has gone down.")
        for member in self._asked_later:
            self._expect(member)
        self._asked_later.clear()

    def _hear(self, member: Member, now: float) -> None:
        try:
            member.progress = ray.get(member.asked, timeout=0)
        except GetTimeoutError:
            return
        except RayError:  # its pack comes back with the error
            self._health.lost(member.name)
        else:
            self._health.answered(member.name, member.progress, member.kinds, now)
        member.asked = None

    def _act_on(self, verdict: Verdict) -> None:
        if verdict.finding is Finding.SLOW:
            self._events.append(WorkerSlow(verdict.worker, verdict.key, verdict.seconds))
            return
        member = self._members[verdict.worker]
        ray.kill(member.handle, no_restart=False)
        what = "no answer" if verdict.finding is Finding.SILENT else "no progress"
        self._lose(member, Loss.STALLED, TimeoutError(f"{what} for {verdict.seconds:.0f} s"))
        self._expect(member)

    def _grow(self) -> None:
        """As many actors as are wanted, but not more than tasks; pending ones beyond that are withdrawn.

        Actors beyond the present room stay pending, which is what makes an autoscaler add nodes. Ray's
        `request_resources` would do that, too, and outlive a driver that is killed: nodes would be paid for
        although no driver uses them. A pending actor ends with its driver.
        """
        most = max(1, min(self._wanted(), self._open_tasks))
        for member in [m for m in self._members.values() if m.is_pending]:
            if len(self._members) <= most:
                break
            self._waiting = {
                ref: other for ref, other in self._waiting.items() if other is not member
            }
            ray.kill(self._members.pop(member.name).handle)
        while len(self._members) < most:
            name = f"worker-{self._count}"
            self._count += 1
            member = Member(name, self._remote.remote(self._context, name, self._make))
            self._members[name] = member
            self._expect(member)
