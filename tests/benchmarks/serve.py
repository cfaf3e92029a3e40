"""A process that times one workload at a time, as its standard input says.

Two kinds of it are compared: a plain one, and one with a worker's environment (`evaluation.py`).
A line `network strategy method wall|cpu` is answered by a line with seconds.
"""

import os
import subprocess
import sys
from pathlib import Path

import torch

from tests.benchmarks.workloads import Workload, seconds
from workers.problems.evaluation import Evaluation, prepare_process, worker_environment

ROOT = Path(__file__).parents[2]


class Server:
    """A child process, plain or set up as a worker, with so many threads."""

    def __init__(self, *, worker: bool, threads: int = 1) -> None:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
        environment = {**kept, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)}
        if worker:
            environment |= worker_environment(Evaluation(threads=threads))
        kind = "worker" if worker else "plain"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.serve", kind, str(threads)],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, network: str, strategy: str, method: str, clock: str = "cpu") -> None:
        """Begin one measurement."""
        assert self._process.stdin is not None
        print(network, strategy, method, clock, file=self._process.stdin, flush=True)

    def answer(self) -> float:
        """Seconds of the measurement that was begun."""
        assert self._process.stdout is not None
        return float(self._process.stdout.readline())

    def time(self, *request: str) -> float:
        self.ask(*request)
        return self.answer()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def main(kind: str, threads: int) -> None:
    torch.set_num_threads(threads)
    if kind == "worker":
        prepare_process(Evaluation(threads=threads))
    made: dict[tuple[str, str], Workload] = {}
    for request in sys.stdin:
        network, strategy, method, clock = request.split()
        if (network, strategy) not in made:
            made[network, strategy] = Workload(network, None if strategy == "auto" else strategy)
            getattr(made[network, strategy], method)()  # the first time is not typical
        work = getattr(made[network, strategy], method)
        print(seconds(work, wall=clock == "wall"), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
