"""A cluster of hundreds of GPUs in simulated time, with the real scheduler: how busy it is kept.

    python -m tests.benchmarks.large_cluster --nodes 64 --minima 1000

Nodes of eight GPUs train minima and optimise all pairs of them, 1 to 300 s each. A node is lost every five
minutes and comes back two minutes later; every two hours a wave of spot nodes, half of all, goes for ten
minutes. Tasks go on from checkpoints of every minute. One answer of the store in a hundred is an error, and
each takes 20 ms. Busy is the share of the time of the workers that are there in which they do work that
counts.
"""

import argparse
import gc
import heapq
import json
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations, count, islice
from pathlib import Path
from typing import Any

from orchestrator.scheduling.driver import WINDOW
from orchestrator.scheduling.messages import (
    Added,
    Complete,
    Event,
    Loss,
    OpenTask,
    PackFinished,
    Replace,
    Run,
    Tick,
    WorkerJoined,
    WorkerLost,
)
from orchestrator.scheduling.policy import Policy
from orchestrator.scheduling.scheduler import Scheduler
from workers.tasks.results import Done, Failed, FailureKind, TaskResult

GPUS = 8
TASK_SECONDS = (1.0, 300.0)
CHECKPOINT_SECONDS = 60.0
LATENCY = 0.02
STORE_ERRORS = 0.01
LOSS_SECONDS, RETURN_SECONDS = 300.0, 120.0
RESTART_SECONDS = 10.0
WAVE_SECONDS, WAVE_RETURN_SECONDS = 7200.0, 600.0


@dataclass
class Report:
    """What a simulated run was like; times in seconds, those of the scheduler of a processor."""

    makespan: float = 0.0
    busy: float = 0.0
    there: float = 0.0
    completed: int = 0
    twice: int = 0
    workers_lost: int = 0
    events: int = 0
    slowest_event: float = 0.0
    scheduler_seconds: float = 0.0
    open_tasks_at_most: int = 0

    @property
    def busy_share(self) -> float:
        return self.busy / self.there

    def to_json(self) -> dict[str, float]:
        return {**self.__dict__, "busy_share": self.busy_share}


@dataclass
class _Life:
    """A worker from joining to loss."""

    joined: float
    packs: list[tuple[str, ...]] = field(default_factory=list)
    began: float = 0.0


class Simulation:
    """Args:
    nodes: of eight GPUs each.
    minima: to train and to join in pairs.
    seed: of everything random.
    """

    def __init__(self, nodes: int, minima: int, seed: int = 0) -> None:
        self._draw = random.Random(seed)
        self._nodes, self._scheduler = nodes, Scheduler(Policy())
        self._source = self._tasks(minima)
        self._total = minima + minima * (minima - 1) // 2
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._number = count()
        self._lives: dict[str, _Life] = {}
        self._gone: set[int] = set()
        self._left: dict[str, float] = {}
        self._done: set[str] = set()
        self._now = 0.0
        self.report = Report()

    def run(self) -> Report:
        """Until every task is complete."""
        gc.freeze()  # as the driver does
        try:
            return self._run()
        finally:
            gc.unfreeze()

    def _run(self) -> Report:
        for node in range(self._nodes):
            self._join(node)
        self._after(LOSS_SECONDS, self._lose_one)
        self._after(WAVE_SECONDS, self._lose_half)
        self._after(1.0, self._tick)
        while len(self._done) < self._total:
            self._fill()
            self._now, _, action = heapq.heappop(self._queue)
            action()
        for life in self._lives.values():
            self.report.there += self._now - life.joined
        self.report.makespan = self._now
        return self.report

    def _tasks(self, minima: int) -> Iterator[OpenTask]:
        names = [f"m{i}" for i in range(minima)]
        yield from (OpenTask(name, kind="TrainMinimum") for name in names)
        yield from (OpenTask(f"{a}-{b}", (a, b), "OptimizePath") for a, b in combinations(names, 2))

    def _fill(self) -> None:
        room = WINDOW - self._scheduler.open_tasks
        if room >= WINDOW // 4 and (fresh := list(islice(self._source, room))):
            self._handle(Added([self._drawn(task) for task in fresh]))
        most = max(self.report.open_tasks_at_most, self._scheduler.open_tasks)
        self.report.open_tasks_at_most = most

    def _drawn(self, task: OpenTask) -> OpenTask:
        self._left[task.key] = self._draw.uniform(*TASK_SECONDS)
        return task

    def _after(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (self._now + seconds, next(self._number), action))

    def _handle(self, event: Event) -> None:
        began = time.thread_time()
        commands = self._scheduler.handle(event, self._now)
        spent = time.thread_time() - began
        report = self.report
        report.events += 1
        report.scheduler_seconds += spent
        report.slowest_event = max(report.slowest_event, spent)
        for command in commands:
            match command:
                case Run(worker, pack):
                    life = self._lives[worker]
                    life.packs.append(pack)
                    if len(life.packs) == 1:
                        self._work(worker, life)
                case Complete(key):
                    report.completed += 1
                    report.twice += key in self._done
                    self._done.add(key)
                case Replace(worker):  # the slower copy of a task
                    self.report.there += self._now - self._lives.pop(worker).joined
                    self._after(RESTART_SECONDS, partial(self._restart, worker))
                case _:
                    raise AssertionError(command)

    def _tick(self) -> None:
        self._handle(Tick())
        self._after(1.0, self._tick)

    # Workers.

    def _join(self, node: int) -> None:
        self._gone.discard(node)
        for gpu in range(GPUS):
            self._restart(f"n{node}-{gpu}")

    def _restart(self, worker: str) -> None:
        node = int(worker[1:].partition("-")[0])
        if worker not in self._lives and node not in self._gone:
            self._lives[worker] = _Life(self._now)
            self._handle(WorkerJoined(worker))

    def _work(self, worker: str, life: _Life) -> None:
        if not life.packs:
            return
        life.began = self._now
        seconds = sum(self._left[key] for key in life.packs[0]) + LATENCY

        def finish() -> None:
            if self._lives.get(worker) is life:
                self._finish(worker, life, seconds)

        self._after(seconds, finish)

    def _finish(self, worker: str, life: _Life, seconds: float) -> None:
        pack = life.packs.pop(0)
        results: list[TaskResult] = []
        for key in pack:
            if self._draw.random() < STORE_ERRORS:
                self._left[key] = LATENCY  # the last checkpoint is there
                results.append(Failed(key, FailureKind.STORE, "503"))
            else:
                results.append(Done(key))
        self.report.busy += seconds - LATENCY
        queued = bool(life.packs)
        self._handle(PackFinished(worker, results, seconds))
        if queued:
            self._work(worker, life)

    # Losses.

    def _lose_one(self) -> None:
        self._lose(self._draw.randrange(self._nodes), RETURN_SECONDS)
        self._after(LOSS_SECONDS, self._lose_one)

    def _lose_half(self) -> None:
        for node in self._draw.sample(range(self._nodes), self._nodes // 2):
            self._lose(node, WAVE_RETURN_SECONDS)
        self._after(WAVE_SECONDS, self._lose_half)

    def _lose(self, node: int, back_after: float) -> None:
        names = [f"n{node}-{gpu}" for gpu in range(GPUS) if f"n{node}-{gpu}" in self._lives]
        for name in names:
            life = self._lives.pop(name)
            self.report.workers_lost += 1
            self.report.there += self._now - life.joined
            if life.packs:
                self._keep(life.packs[0], self._now - life.began)
            self._handle(WorkerLost(name, Loss.PREEMPTED, "its node left"))
        if names:
            self._gone.add(node)
            self._after(back_after, lambda: self._join(node))

    def _keep(self, pack: tuple[str, ...], seconds: float) -> None:
        """Count the work of the running pack that is in its checkpoints."""
        kept = seconds // CHECKPOINT_SECONDS * CHECKPOINT_SECONDS
        self.report.busy += kept
        for key in pack:
            done = min(kept, self._left[key] - LATENCY)
            self._left[key] -= done
            kept -= done


def draw(rows: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Draw hours against nodes, beside the hours that workers would need which are never idle or lost.

    Args:
        rows: of the output, for runs with equal numbers of minima.
        file: of the figure.
    """
    from matplotlib.figure import Figure

    rows = sorted(rows, key=lambda row: row["nodes"])
    nodes = [row["nodes"] for row in rows]
    tasks = rows[0]["completed"]
    ideal = [tasks * sum(TASK_SECONDS) / 2 / (GPUS * n) / 3600 for n in nodes]
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    axes.loglog(nodes, ideal, "--", color="0.6", label="ideal")
    axes.loglog(nodes, [row["makespan"] / 3600 for row in rows], "o-", label="simulated")
    axes.set_xticks(nodes, [str(n) for n in nodes], minor=False)
    axes.set_xticks([], minor=True)
    axes.set(xlabel="nodes of eight GPUs", ylabel="hours", title=f"{tasks:,} tasks of 1 to 300 s")
    axes.legend(frameon=False)
    figure.savefig(file, dpi=130, facecolor="white")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--nodes", type=int, nargs="+", default=[64])
    parser.add_argument("--minima", type=int, default=1000)
    parser.add_argument("--figure", type=Path, help="draw hours against nodes into this file")
    options = parser.parse_args()
    rows = []
    for nodes in options.nodes:
        report = Simulation(nodes, options.minima).run()
        rows.append({"nodes": nodes, "minima": options.minima, **report.to_json()})
        print(json.dumps(rows[-1]), flush=True)
    if options.figure:
        draw(rows, options.figure)


if __name__ == "__main__":
    main()
