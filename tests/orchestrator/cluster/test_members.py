"""What Ray's errors say, and which workers are hoped for: without a cluster."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from ray.exceptions import ActorDiedError, OutOfMemoryError, RayTaskError

from orchestrator.cluster import actor_table, connection, growth
from orchestrator.cluster import executor as executors
from orchestrator.cluster.actor_table import ActorStarts
from orchestrator.cluster.blame import cause
from orchestrator.cluster.connection import ClusterSettings, _JobConfig, environment
from orchestrator.cluster.executor import RayExecutor
from orchestrator.cluster.growth import AbsenceReports
from orchestrator.run_file.groups import Resources
from orchestrator.scheduling.executor import WorkersUnavailable
from orchestrator.scheduling.messages import (
    Added,
    Fail,
    Loss,
    OpenTask,
    Run,
    WorkerJoined,
    WorkerLost,
)
from orchestrator.scheduling.policy import Policy
from orchestrator.scheduling.scheduler import Scheduler
from topo_core.objectives.batching import memory_budget
from workers.execution.progress import Interrupted
from workers.problems.evaluation import GPU_SHARE, Evaluation, prepare_process
from workers.tasks.results import FailureKind


class BrokenStart(ActorDiedError):
    """An actor whose constructor raised."""

    actor_init_failed = True

    def __str__(self):
        return (
            "The actor died because of an error raised in its creation task, "
            "\x1b[36mray::WorkerActor.__init__()\x1b[39m (pid=7)\n  File …\n"
            "FileNotFoundError: /data/images"
        )


def test_the_cause_of_an_exception_in_a_worker_is_its_last_line():
    """Ray heads a worker's traceback with coloured text, which says nothing and garbles logs."""
    text = "\x1b[36mray::WorkerActor.run()\x1b[39m (pid=1)\n  File worker.py\nKeyError: 'x'\n"
    assert cause(RayTaskError("run", text, KeyError("x"))) == "KeyError: 'x'"
    assert cause(BrokenStart()) == "FileNotFoundError: /data/images"


def test_a_task_that_is_killed_for_memory_is_given_up_with_that_cause(cluster, monkeypatch):
    """Ray's memory monitor kills the worker of a greedy task: alone, after three workers, it fails, and the
    reason names the memory of the node."""
    text = "Task was killed due to the node running low on memory.\nMemory on the node was 31 GB / 32 GB"
    monkeypatch.setattr(executors, "cause_of_loss", lambda error, node: Loss.CRASHED)
    answers = [answer for _ in range(3) for answer in ("node-a", OutOfMemoryError(text))]
    executor, _ = cluster(w0=answers, w1=[])
    scheduler = Scheduler(Policy(max_attempts=3))
    commands = scheduler.handle(Added([OpenTask("greedy")]), 0.0)
    for _ in range(12):
        for event in executor.poll(0.0):
            commands += scheduler.handle(event, 0.0)
        for command in [c for c in commands if isinstance(c, Run)]:
            executor.submit(command.worker, [])
        failed = [c.failure for c in commands if isinstance(c, Fail)]
        if failed:
            break
        commands = []
    (failure,) = failed
    assert failure.kind is FailureKind.KILLS_ITS_WORKER
    assert "3 workers in a row" in failure.reason and "running low on memory" in failure.reason


@pytest.mark.parametrize(("gpus", "share"), [(0.25, 0.25), (1.0, 1.0), (2.0, 1.0), (0.0, 1.0)])
def test_workers_that_share_a_gpu_share_its_memory(monkeypatch, gpus, share):
    """Four workers with a quarter of a GPU each budget together what one would budget alone."""
    total = 80 << 30
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=total)
    )
    monkeypatch.delenv(GPU_SHARE, raising=False)
    alone = memory_budget.budget(torch.device("cuda"))
    for name, value in environment(Evaluation(), gpus).items():
        if name == GPU_SHARE:
            monkeypatch.setenv(name, value)
    prepare_process(Evaluation())
    shared = memory_budget.budget(torch.device("cuda"))
    memory_budget.share_device(1.0)
    assert shared == int(alone * share)


@pytest.fixture
def cluster(monkeypatch):
    """An executor whose Ray is this scripted one: each start answers, or raises."""

    class Remote:
        def __init__(self, name):
            self.name = name
            self.join = self
            self.leave = SimpleNamespace(options=lambda **o: SimpleNamespace(remote=self._leave))
            self.run = SimpleNamespace(remote=lambda pack: self.remote())

        def _leave(self):
            asked_to_leave.append(self.name)

        def options(self, **options):
            return self

        def remote(self, *arguments):
            answer = script[self.name].pop(0) if script[self.name] else None
            ref = (self.name, len(refs), answer)
            refs.append(ref)
            return ref

    class Actors:
        def __call__(self, actor):
            return self

        def remote(self, context, name, make):
            started.append(name)
            return Remote(name)

    class Ray:
        @staticmethod
        def remote(**options):
            return Actors()

        @staticmethod
        def kill(handle, no_restart=True):
            killed.append(handle.name)

        @staticmethod
        def cluster_resources():
            return {"CPU": room[0]}

        @staticmethod
        def nodes():
            return [{"Alive": True}]

        @staticmethod
        def wait(asked, num_returns=1, timeout=0):
            return [ref for ref in asked if ref[2] is not None], []

        @staticmethod
        def get(ref, timeout=None):
            if isinstance(ref[2], Exception):
                raise ref[2]
            return ref[2]

    script, refs, started, killed, asked_to_leave = (
        {f"worker-{number}": [] for number in range(9)},
        [],
        [],
        [],
        [],
    )
    monkeypatch.setattr(executors, "ray", Ray)
    monkeypatch.setattr(executors, "connect", lambda settings: None)
    monkeypatch.setattr(executors, "gpus_per_worker", lambda resources: 0.0)
    monkeypatch.setattr(executors, "environment", lambda evaluation, gpus: {})
    monkeypatch.setattr(executors, "SURVEY_SECONDS", float("inf"))

    hosts = {"node-a": "anna", "node-b": "bert"}
    monkeypatch.setattr(growth, "ray", Ray)
    for module in (executors, actor_table):
        monkeypatch.setattr(module, "hosts_of_nodes", lambda: hosts)
    monkeypatch.setattr(actor_table, "starts_of_actors", lambda: dict(table))
    monkeypatch.setattr(actor_table, "identifier", lambda handle: handle.name)
    monkeypatch.setattr(executors, "draining_nodes", lambda: frozenset(draining))
    draining, room, table = set(), [2.0], {}

    class Context:
        evaluation = None

    def make(address=None, **scripted):
        script.update({f"worker-{name[1:]}": answers for name, answers in scripted.items()})
        return RayExecutor(Context(), ClusterSettings(address)), started

    make.draining, make.asked_to_leave, make.killed = draining, asked_to_leave, killed
    make.room, make.table = room, table
    return make


def test_a_worker_that_cannot_start_is_tried_again_while_another_works(cluster):
    """The run continues with the others; after three failed starts the worker is left out."""
    executor, started = cluster(w0=["node-a"], w1=[BrokenStart()] * 5)
    happened = [event for _ in range(6) for event in executor.poll(0.0)]
    assert [type(event) for event in happened].count(WorkerLost) == 3
    assert WorkerJoined("worker-0", "node-a") in happened
    assert started.count("worker-1") == 3
    assert "FileNotFoundError: /data/images" in happened[-1].cause


def test_a_worker_that_starts_at_the_second_try_joins(cluster):
    """A node whose data came up late is no lost node."""
    executor, _ = cluster(w0=["node-a"], w1=[BrokenStart(), "node-b"])
    happened = [event for _ in range(3) for event in executor.poll(0.0)]
    assert WorkerJoined("worker-1", "node-b") in happened


def test_workers_of_which_none_can_start_end_the_run(cluster):
    """Once the start of each has failed, the run ends with the cause."""
    executor, _ = cluster(w0=[BrokenStart()] * 5, w1=[BrokenStart()] * 5)
    with pytest.raises(WorkersUnavailable, match="No worker can start: FileNotFoundError"):
        for _ in range(4):
            executor.poll(0.0)


def ended_starts(executor, cluster, restarts, worker="worker-1", node="node-b"):
    """Ray has restarted a worker's actor so often; the executor looks it up."""
    cluster.table[worker] = ActorStarts(restarts, node)
    executor._count_ended_starts()
    return executor.poll(0.0)


def test_a_worker_whose_process_ends_while_it_starts_is_reported_and_given_up(cluster):
    """Ray restarts it without a word, and its first call stays pending. The run continues with the others and
    says which node fails."""
    executor, _ = cluster(w0=["node-a"], w1=[])
    executor.poll(0.0)
    assert ended_starts(executor, cluster, 0) == []
    (first,) = ended_starts(executor, cluster, 1)
    assert first.worker == "worker-1" and first.how is Loss.CRASHED
    assert "could not start" in first.cause and "node bert" in first.cause
    (last,) = ended_starts(executor, cluster, 4)
    assert "(4 times)" in last.cause and "not started again" in last.cause
    assert cluster.killed == ["worker-1"]
    assert ended_starts(executor, cluster, 9) == []


def test_a_run_ends_when_the_process_of_every_worker_ends_while_it_starts(cluster):
    """It would wait for ever for workers that Ray restarts again and again."""
    executor, _ = cluster(w0=[], w1=[])
    ended_starts(executor, cluster, 2)
    ended_starts(executor, cluster, 3)
    with pytest.raises(WorkersUnavailable, match=r"No worker can start: .*its process ended"):
        ended_starts(executor, cluster, 3, worker="worker-0", node="node-a")


def test_restarts_of_a_worker_that_worked_or_whose_node_left_are_no_failed_starts(cluster):
    """Ray also restarts an actor that was lost or stopped later, and one whose node was preempted."""
    executor, _ = cluster(w0=["node-a"], w1=["node-b", None, None])
    executor.poll(0.0)
    executor.replace("worker-1", start_again=True)
    assert ended_starts(executor, cluster, 7) == []
    assert ended_starts(executor, cluster, 8, node="a node that has left") == []
    assert len(ended_starts(executor, cluster, 9)) == 1


def test_the_absence_of_workers_is_reported_once_a_minute():
    """The image of the nodes may be broken: nothing fails, and nobody joins."""
    absence = AbsenceReports(2.0, 0.0)
    seen = [absence.check(now, joined) for now, joined in ((59, 0), (61, 0), (62, 0), (125, 0))]
    assert seen[0] is seen[2] is None and seen[1] == seen[3]
    assert "no worker has joined" in seen[1].reason and "1 CPU and 2 GPUs" in seen[1].reason
    assert [absence.check(now, joined) for now, joined in ((200, 1), (230, 0))] == [None, None]


def test_an_error_of_the_first_call_ends_no_driver(cluster):
    """`join` raises where the data cannot be unpickled: the worker could not start, and says why."""
    error = RayTaskError("join", "ModuleNotFoundError: nobody", ModuleNotFoundError("nobody"))
    executor, _ = cluster(w0=["node-a"], w1=[error])
    happened = executor.poll(0.0)
    assert "ModuleNotFoundError: nobody" in happened[-1].cause


def test_a_retired_worker_is_let_go_and_comes_back_when_it_is_wanted(cluster):
    """Its actor holds no GPU any more; with more open tasks than workers another one is started."""
    executor, started = cluster(w0=["node-a"], w1=["node-b"], w2=["node-b"])
    executor.poll(0.0)
    executor.retire("worker-1")
    executor.want(1)
    executor._grow()
    assert started == ["worker-0", "worker-1"]
    executor.want(2)
    executor._grow()
    assert started[2:] == ["worker-2"]


def test_a_worker_whose_node_drains_leaves_at_its_next_checkpoint(cluster):
    """A spot notice: it is asked to stop, its pack counts as preempted, and it starts elsewhere."""
    interrupted = RayTaskError("run", "Interrupted: k", Interrupted("k"))
    executor, _ = cluster(w0=["node-a", interrupted, "node-c"], w1=["node-b", None, "node-d"])
    executor.poll(0.0)
    executor.submit("worker-0", [])
    cluster.draining.add("node-a")
    executor._leave_draining_nodes()
    executor._leave_draining_nodes()
    assert cluster.asked_to_leave == ["worker-0"] and not cluster.killed
    (lost,) = executor.poll(0.0)
    assert (lost.worker, lost.how) == ("worker-0", Loss.PREEMPTED)
    assert cluster.killed == ["worker-0"]
    assert executor.poll(0.0) == [WorkerJoined("worker-0", "node-c")]


def test_nobody_joins_from_a_node_that_drains(cluster):
    """The answer comes from the process that is about to end: what is sent to it would be lost."""
    executor, _ = cluster(w0=["node-a", "node-a", "node-c"], w1=["node-b"])
    cluster.draining.add("node-a")
    assert executor.poll(0.0) == [WorkerJoined("worker-1", "node-b")]
    executor._call_join_again()
    assert executor.poll(0.0) == []
    executor._call_join_again()
    assert executor.poll(0.0) == [WorkerJoined("worker-0", "node-c")]


def test_an_idle_worker_whose_node_drains_moves_at_once(cluster):
    """It has nothing to publish."""
    executor, _ = cluster(w0=["node-a", "node-c"], w1=["node-b"])
    executor.poll(0.0)
    cluster.draining.add("node-a")
    executor._leave_draining_nodes()
    assert cluster.killed == ["worker-0"]
    lost, joined = executor.poll(0.0)
    assert lost.how is Loss.PREEMPTED and joined == WorkerJoined("worker-0", "node-c")


def test_an_interrupted_run_lets_its_workers_publish_their_checkpoints(cluster, monkeypatch):
    """SIGTERM of Slurm, Kubernetes or a user: busy workers are asked to leave before they are killed."""
    executor, _ = cluster(w0=["node-a", None], w1=["node-b"])
    waited = []
    monkeypatch.setattr(executors, "disconnect", lambda: None)
    executor.poll(0.0)
    executor.submit("worker-0", [])

    def wait(asked, num_returns=1, timeout=0):
        waited.append((cluster.asked_to_leave[:], cluster.killed[:], timeout))
        return [], asked

    monkeypatch.setattr(executors.ray, "wait", wait)
    executor.close()
    assert waited == [(["worker-0"], [], executors.LEAVE_SECONDS)]
    assert cluster.killed == ["worker-0", "worker-1"]


def test_the_environment_of_workers_names_no_import_path():
    """The folders of the driver's installation would replace those of a worker's on another node."""
    assert "PYTHONPATH" not in environment(Evaluation(), 0.0)
    root = str(Path(executors.__file__).parents[2])
    assert _JobConfig()._py_driver_sys_path in ([], [root])


def test_a_cluster_without_nodes_grows_as_long_as_tasks_are_left(cluster):
    """From zero: one pending worker makes the autoscaler add a node; once it has joined, twice as many are
    asked for. What is pending when few tasks are left is withdrawn, so that no node is added for them."""
    cluster.room[0] = 0.0
    executor, started = cluster("head:6379", w0=["node-a"], w1=["node-b"])
    assert started == ["worker-0"]
    executor.poll(0.0)
    executor._grow()
    assert started == ["worker-0", "worker-1"]
    executor.poll(0.0)
    executor._grow()
    assert len(started) == 4
    executor.want(3)
    executor._grow()
    assert cluster.killed == ["worker-2"]
    executor.want(1)
    executor._grow()
    assert cluster.killed == ["worker-2", "worker-3"], (
        "the scheduler retires those that have joined"
    )
    executor.poll(0.0)


class Nodes:
    """A Ray whose cluster gets its first node once something was asked of it."""

    def __init__(self, before, after):
        self.resources, self.after, self.asked = before, after, 0

    def cluster_resources(self):
        return self.resources

    def remote(self, **options):
        return lambda question: SimpleNamespace(remote=self._ask)

    def _ask(self):
        self.asked += 1
        return "ref"

    def wait(self, refs, timeout=None):
        if timeout is not None:
            return [], refs
        self.resources = self.after
        return refs, []

    def get(self, ref):
        return 7


@pytest.mark.parametrize(
    ("before", "after", "promised", "gpus", "asked"),
    [
        ({"CPU": 8.0}, None, {}, 0.0, 0),
        ({"CPU": 8.0, "GPU": 2.0}, None, {}, 1.0, 0),
        ({}, {"CPU": 4.0, "GPU": 1.0}, {}, 1.0, 1),
        ({}, {"CPU": 4.0}, {}, 0.0, 1),
        ({}, None, {"CPU": 64, "GPU": 16}, 1.0, 0),
        ({"CPU": 8.0}, None, {"CPU": 64, "GPU": 16}, 1.0, 0),
    ],
)
def test_the_device_is_that_of_the_first_node(
    monkeypatch, capsys, before, after, promised, gpus, asked
):
    """`auto` in a cluster that has scaled to zero waits for a node, and does not choose the CPU for good."""
    nodes = Nodes(before, after)
    monkeypatch.setattr(connection, "ray", nodes)
    monkeypatch.setattr(connection, "_can_be_added", lambda resource: promised.get(resource, 0) > 0)
    assert connection.gpus_per_worker(Resources()) == gpus
    assert nodes.asked == asked
    assert ("Waiting for a node with 1 CPU" in capsys.readouterr().err) == bool(asked)
    assert connection.gpus_per_worker(Resources(gpus_per_worker=0.5)) == 0.5
