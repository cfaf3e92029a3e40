"""Processor time of a path where losses are small and exact: inside the loss, and everywhere else.

    python -m tests.benchmarks.overhead

Each pair is joined twice with shipped defaults, one thread, and the second run is printed. *Loss* is the time
inside the objective: values, gradients, and Hessian-vector products. *Overhead* is the rest over it.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tests.benchmarks.barrier_landscapes import LANDSCAPES, Case
from topo_core.objectives.protocol import CurvatureObjective, Objective, Step
from topo_core.paths.optimize import optimize_path


@dataclass
class Timed:
    """An objective that adds up the processor time of its calls."""

    inner: Objective
    seconds: float = 0.0
    batches: int = field(default=1, init=False)

    @property
    def dimension(self) -> int | None:
        return self.inner.dimension

    def losses(self, points: Tensor) -> Tensor:
        """Losses [k] at ``points`` [k, d]."""
        began = time.process_time()
        losses = self.inner.losses(points)
        self.seconds += time.process_time() - began
        return losses

    def gradients(self, points: Tensor, step: Step) -> tuple[Tensor, Tensor]:
        """Losses [k] and gradients [k, d]."""
        began = time.process_time()
        both = self.inner.gradients(points, step)
        self.seconds += time.process_time() - began
        return both

    def full_gradients(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Losses [k] and gradients [k, d]."""
        assert isinstance(self.inner, CurvatureObjective)
        began = time.process_time()
        both = self.inner.full_gradients(points)
        self.seconds += time.process_time() - began
        return both

    def hessian_vector_products(self, points: Tensor, vectors: Tensor) -> Tensor:
        """Products [k, d] of the Hessians with ``vectors`` [k, d]."""
        assert isinstance(self.inner, CurvatureObjective)
        began = time.process_time()
        products = self.inner.hessian_vector_products(points, vectors)
        self.seconds += time.process_time() - began
        return products


def cases() -> Iterator[Case]:
    """Pairs on losses with 7 to 100 parameters."""
    yield from LANDSCAPES["truth"](99)
    yield from LANDSCAPES["pooled"](2)


def main() -> None:
    """Measure and print a row for each pair."""
    torch.set_num_threads(1)
    print("| pair | parameters | gradients and products | s | of it in the loss | overhead |")
    print("|---|---|---|---|---|---|")
    for case in cases():
        for _ in range(2):
            timed = Timed(case.objective)
            began = time.process_time()
            path = optimize_path(timed, case.start, case.end)
            seconds = time.process_time() - began
        print(
            f"| {case.name} | {len(case.start)} | {path.gradient_evaluations} | {seconds:.2f} "
            f"| {timed.seconds:.2f} | {seconds / timed.seconds - 1:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
