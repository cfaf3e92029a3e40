"""Time of a path step and of a height against the literal loop: one table of ratios.

    python -m tests.benchmarks.speed            # all rows; needs torch alone
    python -m tests.benchmarks.speed fc cnn2    # some

Measurements are interleaved: literal, ours, literal, ours, … and medians are compared. Rows of one thread
compare processor time, so that others on the machine do not count. `same process` compares both in a
process that is set up as a worker is; `worker against plain` is what a user gains over the plain loop.
"""

import datetime
import platform
import statistics
import sys
from collections.abc import Sequence

import torch

from tests.benchmarks.serve import Server

GOALS = {"fc": 2.5, "cnn2": 1.6, "cnn3": 1.6, "resnet": 1.3, "dense": 7.0, "two": 2.2}
REPEATS = {"fc": 21, "cnn2": 5, "cnn3": 5, "resnet": 5, "dense": 3, "two": 5}
NAMES = {
    "fc": "FC 784-32-32-10, 17 points, batch 256",
    "cnn2": "CNN-2-32, 28x28, 8 points, batch 128",
    "cnn3": "CNN-3-32, 32x32x3, 8 points, batch 128",
    "resnet": "ResNet 195k, 32x32x3, 4 points, batch 128",
    "dense": "heights: 91 points x 5,000 images, FC",
    "two": "two workers of one thread against literal with two threads, CNN-2-32",
}


def main(rows: Sequence[str] = ()) -> dict[str, float]:
    """Print the table; the ratios by row."""
    print(f"{machine()}\n")
    print("| what | literal ms | worker ms | same process | worker against plain | goal |")
    print("|---|---|---|---|---|---|")
    found = {}
    for row in rows or NAMES:
        found[row] = _two_workers() if row == "two" else _one_thread(row)
    return found


def machine() -> str:
    """One line: what it was measured on."""
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as lines:
            name = next(x for x in lines if x.startswith("model name")).split(": ")[1].strip()
    except (OSError, StopIteration):
        pass
    return (
        f"{datetime.date.today()}, {name}, torch {torch.__version__}, "
        f"Python {platform.python_version()}, {torch.get_num_threads()} threads seen"
    )


def _one_thread(row: str) -> float:
    network = "fc" if row == "dense" else row
    theirs, ours = ("dense_literal", "dense_ours") if row == "dense" else ("literal", "ours")
    plain, worker = Server(worker=False), Server(worker=True)
    times: dict[str, list[float]] = {"plain": [], "literal": [], "ours": []}
    for _ in range(REPEATS[row]):
        times["plain"].append(plain.time(network, "literal", theirs, "cpu"))
        times["literal"].append(worker.time(network, "literal", theirs, "cpu"))
        times["ours"].append(worker.time(network, "auto", ours, "cpu"))
    plain.close()
    worker.close()
    medians = {name: statistics.median(values) for name, values in times.items()}
    same, gained = medians["literal"] / medians["ours"], medians["plain"] / medians["ours"]
    _print(row, medians["plain"], medians["ours"], f"{same:.2f}", f"{gained:.2f}")
    return gained


def _two_workers() -> float:
    """Wall time for as much work: twice a literal epoch on two threads, or one on each of two workers."""
    literal = Server(worker=False, threads=2)
    workers = [Server(worker=True), Server(worker=True)]
    theirs, ours = [], []
    for repeat in range(REPEATS["two"] + 1):
        one = sum(literal.time("cnn2", "literal", "literal", "wall") for _ in range(2))
        for worker in workers:
            worker.ask("cnn2", "auto", "ours", "wall")
        both = max(worker.answer() for worker in workers)
        if repeat:  # the first was not in step
            theirs.append(one)
            ours.append(both)
    for server in (literal, *workers):
        server.close()
    ratio = statistics.median(theirs) / statistics.median(ours)
    _print("two", statistics.median(theirs), statistics.median(ours), "", f"{ratio:.2f}")
    return ratio


def _print(row: str, literal: float, ours: float, same: str, gained: str) -> None:
    print(
        f"| {NAMES[row]} | {1e3 * literal:.1f} | {1e3 * ours:.1f} | {same} | {gained} "
        f"| {GOALS[row]} |",
        flush=True,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
