"""How often the default finds the true pass: random sums of Gaussians, in the plane and in 1,000 dimensions.

    python -m tests.benchmarks.gaussians          # seeds 0 to 99
    python -m tests.benchmarks.gaussians 10 20    # seeds 10 to 19

The true pass is the minimax over a fine grid of the plane (needs scipy). The same landscape is then turned
into 1,000 dimensions, where no grid helps. A path counts as true within 1 % of the barrier.
"""

import sys
import time

import torch

from tests.helpers.minimax import GridPasses
from topo_core.paths.optimize import optimize_path
from topo_core.reference_landscapes.surfaces import embedded, gaussians

GOAL = 95
SPACES = ("in the plane", "in 1,000 dimensions")


def excesses(seed: int) -> dict[str, tuple[float, int]]:
    """Height above the true pass as a fraction of the barrier, and gradients, in both spaces."""
    landscape = gaussians(seed)
    last = len(landscape.minima) - 1
    ends = landscape.minima[[0, last]]
    true = GridPasses(landscape.objective, -4.5, 4.5).between(*ends)
    barrier = true - float(landscape.losses[last])
    hidden = embedded(landscape.objective, 1000, seed)
    runs = [(landscape.objective, ends), (hidden, hidden.lift(ends))]
    found = {}
    for space, (objective, (start, end)) in zip(SPACES, runs, strict=True):
        solution = optimize_path(objective, start, end)
        excess = (solution.profile.maximum - true) / barrier
        found[space] = excess, solution.gradient_evaluations
    return found


def main(first: int = 0, last: int = 100) -> dict[str, list[int]]:
    """Print how many passes were found, and name the others; the seeds that failed, by space."""
    torch.set_num_threads(1)
    started = time.process_time()
    failed: dict[str, list[int]] = {space: [] for space in SPACES}
    for seed in range(first, last):
        for space, (excess, gradients) in excesses(seed).items():
            if abs(excess) > 0.01:
                failed[space].append(seed)
            verdict = "missed" if abs(excess) > 0.01 else "found"
            print(
                f"seed {seed}, {space}: {verdict}, {100 * excess:+.3f} % of the barrier above, "
                f"{gradients} gradients",
                flush=True,
            )
    for space, seeds in failed.items():
        names = f"; not seeds {', '.join(map(str, seeds))}" if seeds else ""
        print(f"{space}: {last - first - len(seeds)} of {last - first} (goal {GOAL}){names}")
    print(f"{time.process_time() - started:.0f} s of processor time")
    return failed


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
