"""Runs packs of tasks on the workers of a Ray cluster.

Workers are long-lived actors, because Ray starts a new process for each Ray task that uses a GPU. Ray
restarts an actor that dies, but never repeats its work: the scheduler decides which worker does. Each actor
has a second thread for short calls, so that it reports its progress while a pack runs.
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

from orchestrator.cluster.actor_table import PROCESS_ENDED, ended_starts, hosts_of_nodes
from orchestrator.cluster.blame import cause, cause_of_loss, could_not_start
from orchestrator.cluster.connection import (
    ClusterSettings,
    connect,
    disconnect,
    draining_nodes,
    environment,
    gpus_per_worker,
)
from orchestrator.cluster.growth import AbsenceReports, wanted_workers
from orchestrator.cluster.members import MakeWorker, Member, Unreachable, WorkerActor
from orchestrator.cluster.shared_data import SharedData
from orchestrator.scheduling.executor import (
    ClusterGone,
    ExecutorEvent,
    WorkerSlow,
    WorkersUnavailable,
)
from orchestrator.scheduling.messages import Loss, PackFinished, WorkerJoined, WorkerLost
from orchestrator.scheduling.worker_health import Finding, WorkerHealth, WorkerVerdict
from orchestrator.scheduling.worker_starts import WorkerStarts
from workers.execution.worker import Worker, WorkerContext
from workers.problems.data_sets import load_dataset
from workers.problems.dataset import Dataset
from workers.tasks.specs import DataSpec
from workers.tasks.task import Task

SURVEY_SECONDS = 2.0
"""Seconds between two searches for new nodes, and between two requests for the progress of workers."""

LEAVE_SECONDS = 10.0
"""Seconds that running tasks get to publish a checkpoint when the run is interrupted: less than the 30 s that
Kubernetes and Slurm leave after SIGTERM. A task that needs longer resumes from a checkpoint about a minute
old."""

UNREACHABLE_SECONDS = 20.0
"""Seconds after which an unreachable worker counts as crashed. A head node notices a lost node sooner, with
the settings of the files in `deploy/`."""


class RayExecutor:
    """An executor whose workers run on a Ray cluster, started on this machine or already running.

    Raises:
        WorkersUnavailable: there is no cluster at the address, its versions differ, or it refuses the token.
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
        context: settings of every worker.
        settings: of the cluster.
        make: makes a worker from the context, its name and a function that returns whether to stop; tests
            pass their own.
        data: specification and data of the run as the driver has loaded them, so that workers need not load
            them again; None if each worker loads them.
        """
        self._context, self._settings, self._make = context, settings, make
        self._members: dict[str, Member] = {}
        self._waiting: dict[Any, Member] = {}
        self._to_join_again: list[Member] = []
        self._packs: dict[Any, str] = {}
        self._events: deque[ExecutorEvent] = deque()
        self._health = WorkerHealth(settings.limits)
        self._starts = WorkerStarts()
        self._surveyed = 0.0
        self._count = 0
        self._open_tasks: float = float("inf")
        connect(settings)
        self._load_data = load_dataset if data is None else SharedData(*data)
        self._gpus = gpus_per_worker(settings.resources)
        self._absence = AbsenceReports(self._gpus, time.monotonic())
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
        if member.unreachable is not None:
            return  # the worker will be reported lost, which returns this pack to the scheduler's queue
        member.kinds |= {task.key: type(task).__name__ for task in pack}
        self._packs[member.handle.run.remote(list(pack))] = worker

    def poll(self, timeout: float) -> list[ExecutorEvent]:
        self._survey()
        refs = [*self._packs, *self._waiting]
        if not refs:
            time.sleep(timeout)
        else:
            ready, _ = ray.wait(refs, num_returns=1, timeout=timeout)
            if ready:  # take all other answers that have arrived meanwhile
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
        member.unreachable = None
        ray.kill(member.handle, no_restart=not start_again)
        if start_again:
            self._call_join(member)

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
        """Ask running tasks to publish their checkpoints, and wait for up to `LEAVE_SECONDS`."""
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
        """Handle the answer of an actor to `join` or `run`."""
        member = self._waiting.pop(ref, None)
        if member is not None:
            self._receive_join(ref, member)
            return
        worker = self._packs.pop(ref, None)
        if worker is None:
            return  # another pack of a worker that was just reported lost
        try:
            results, seconds = ray.get(ref)
        except ActorUnavailableError as error:
            self._note_unreachable(self._members[worker], error)
        except (RayActorError, RayTaskError, RayError) as error:
            member = self._members[worker]
            if member.leaving:
                self._move(member)
                return
            self._lose(member, cause_of_loss(error, member.node), error)
            self._call_join(member)
        else:
            for result in results:
                self._members[worker].kinds.pop(result.key, None)
            self._events.append(PackFinished(worker, results, seconds))

    def _receive_join(self, ref: Any, member: Member) -> None:
        try:
            node = ray.get(ref)
        except RayActorError as error:
            if could_not_start(error):
                self._start_failed(member, cause(error))
                return
            # The actor died while it started, and Ray restarts it. Until there is room for it (its node may
            # have left), every call fails at once, so the next survey calls it again.
            self._to_join_again.append(member)
            return
        except RayError as error:  # `join` has raised, or the environment cannot be set up
            ray.kill(member.handle)
            self._start_failed(member, cause(error))
            return
        if node in draining_nodes():  # the old process still answers, or the node is about to leave
            self._to_join_again.append(member)
            return
        if member.unreachable is not None:  # its process died and was restarted
            reason = member.unreachable.error
            self._lose(member, cause_of_loss(reason, member.node), reason)
        member.joined, member.node = True, node
        self._starts.joined(member.name, hosts_of_nodes().get(node, ""))
        self._events.append(WorkerJoined(member.name, node))

    def _start_failed(self, member: Member, reason: str) -> None:
        """Handle a constructor that raised: Ray does not restart such an actor, so a new one is made.

        Raises:
            WorkersUnavailable: no worker can start.
        """
        why = self._starts.failed(member.name, "", reason, raised=True)
        self._report_failed_start(member, why, reason)
        if self._starts.may_try(member.name):
            member.handle = self._remote.remote(self._context, member.name, self._make)
            member.restarts = 0
            self._call_join(member)

    def _count_ended_starts(self) -> None:
        """Find workers whose processes have ended while they started; Ray restarts them, and reports nothing.

        Raises:
            WorkersUnavailable: no worker can start.
        """
        for member, host, times in ended_starts([*self._waiting.values(), *self._to_join_again]):
            why = self._starts.failed(member.name, host, PROCESS_ENDED, raised=False, times=times)
            if not self._starts.may_try(member.name):
                ray.kill(member.handle)
                self._ignore(member)
            self._report_failed_start(member, why, why.removeprefix("it could not start "))

    def _report_failed_start(self, member: Member, why: str, reason: str) -> None:
        """Report a worker that could not start.

        Raises:
            WorkersUnavailable: no worker can start; the message gives the `reason`.
        """
        members = self._members.values()
        working = [m.name for m in members if m.joined and m is not member]
        if self._starts.is_hopeless(working, [m.name for m in members if m.name not in working]):
            raise WorkersUnavailable(f"No worker can start: {reason}")
        self._events.append(WorkerLost(member.name, Loss.CRASHED, why))

    def _ignore(self, member: Member) -> None:
        """Ignore later answers of an actor that was killed."""
        self._waiting = {ref: m for ref, m in self._waiting.items() if m is not member}
        self._to_join_again = [m for m in self._to_join_again if m is not member]

    def _leave_draining_nodes(self) -> None:
        """Stop workers on draining nodes at their next checkpoint, and restart them on other nodes."""
        draining = draining_nodes()
        for member in self._members.values():
            if member.joined and not member.leaving and member.node in draining:
                member.leaving = True
                if member.name in self._packs.values():
                    member.handle.leave.options(concurrency_group="answers").remote()
                else:
                    self._move(member)

    def _move(self, member: Member) -> None:
        """Restart a worker on another node; Ray places no actor on a node that drains."""
        ray.kill(member.handle, no_restart=False)
        member.leaving = False
        self._lose(member, Loss.PREEMPTED, RuntimeError("its node is being drained"))
        self._call_join(member)

    def _note_unreachable(self, member: Member, error: Exception) -> None:
        """Wait until it is known whether the process or the node of an unreachable worker has failed.

        Only if the process alone has failed may its pack be the cause. When a node loses power, the
        connection to it breaks seconds before Ray reports the node as lost.
        """
        self._forget_packs(member)
        member.unreachable = Unreachable(error, time.monotonic())
        self._call_join(member)

    def _give_up_unreachable(self, now: float) -> None:
        """Report unreachable workers as lost whose node has failed, or that have not returned in time."""
        for member in [m for m in self._members.values() if m.unreachable is not None]:
            unreachable = cast(Unreachable, member.unreachable)
            how = cause_of_loss(unreachable.error, member.node)
            if how is Loss.PREEMPTED or now - unreachable.since > UNREACHABLE_SECONDS:
                self._lose(member, how, unreachable.error)

    def _lose(self, member: Member, how: Loss, error: Exception) -> None:
        self._forget_packs(member)
        member.unreachable = None
        self._events.append(WorkerLost(member.name, how, cause(error)))

    def _forget_packs(self, member: Member) -> None:
        for ref in [ref for ref, worker in self._packs.items() if worker == member.name]:
            self._packs.pop(ref)
        member.joined, member.asked, member.progress, member.kinds = False, None, {}, {}
        member.restarts = None
        self._health.lost(member.name)

    def _call_join(self, member: Member) -> None:
        """Call `join` on the actor; the worker joins once it answers with the node on which it runs."""
        join = member.handle.join.options(concurrency_group="answers")
        self._waiting[join.remote(self._load_data)] = member

    # Growth and health.

    @property
    def _joined(self) -> int:
        return sum(member.joined for member in self._members.values())

    def _survey(self) -> None:
        """Every `SURVEY_SECONDS`, adjust the number of workers and check the health of each."""
        now = time.monotonic()
        if now - self._surveyed < SURVEY_SECONDS:
            return
        self._surveyed = now
        if report := self._absence.check(now, self._joined):
            self._events.append(report)
        self._give_up_unreachable(now)
        self._count_ended_starts()
        self._call_join_again()
        self._leave_draining_nodes()
        self._grow()
        for member in self._members.values():
            if not member.joined:
                continue
            if member.asked is not None:
                self._read_answer(member, now)
            if member.asked is None and member.joined:
                ask = member.handle.progress.options(concurrency_group="answers")
                member.asked = ask.remote()
                self._health.asked(member.name, now)
        for verdict in self._health.verdicts(now):
            self._act_on(verdict)

    def _call_join_again(self) -> None:
        """Call `join` again on workers that died while they started.

        Raises:
            ClusterGone: the cluster was started here and its only node has gone, so they can never start.
        """
        if not self._to_join_again:
            return
        if self._settings.address is None and not any(n["Alive"] for n in ray.nodes()):
            raise ClusterGone("The Ray cluster that this run had started has gone down.")
        for member in self._to_join_again:
            self._call_join(member)
        self._to_join_again.clear()

    def _read_answer(self, member: Member, now: float) -> None:
        """Read the answer to the last `progress` call, if it has arrived."""
        try:
            member.progress = ray.get(member.asked, timeout=0)
        except GetTimeoutError:
            return
        except RayError:  # the call for its pack returns the same error
            self._health.lost(member.name)
        else:
            self._health.answered(member.name, member.progress, member.kinds, now)
        member.asked = None

    def _act_on(self, verdict: WorkerVerdict) -> None:
        if verdict.finding is Finding.SLOW:
            self._events.append(WorkerSlow(verdict.worker, verdict.key, verdict.seconds))
            return
        member = self._members[verdict.worker]
        ray.kill(member.handle, no_restart=False)
        what = "no answer" if verdict.finding is Finding.SILENT else "no progress"
        self._lose(member, Loss.STALLED, TimeoutError(f"{what} for {verdict.seconds:.0f} s"))
        self._call_join(member)

    def _grow(self) -> None:
        """Start actors up to the wanted number or the number of open tasks; kill pending ones beyond it.

        Actors for which there is no room stay pending, which makes an autoscaler add nodes. A request through
        Ray's `request_resources` would do so too, but it would remain after the driver was killed: nodes
        would cost money although no driver uses them. A pending actor ends with its driver.
        """
        most = max(
            1, min(wanted_workers(self._settings, self._gpus, self._joined), self._open_tasks)
        )
        for member in [m for m in self._members.values() if m.is_pending]:
            if len(self._members) <= most:
                break
            self._ignore(member)
            ray.kill(self._members.pop(member.name).handle)
        while len(self._members) < most:
            name = f"worker-{self._count}"
            self._count += 1
            member = Member(name, self._remote.remote(self._context, name, self._make))
            self._members[name] = member
            self._call_join(member)
