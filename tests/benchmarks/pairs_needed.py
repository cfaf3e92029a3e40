"""How many pairs the lazy rule needs, against n: like n or like n^2? On landscapes with known heights.

    python -m tests.benchmarks.pairs_needed

The landscapes are those that `tests/orchestrator/pair_rules/test_rounds.py` checks: `connected`
(passes a little above their floors, as in wide networks), `clusters` (four groups with high passes between
them), `rough` (every height on its own, up to fifty times the tolerance). Prints for each the mean number
of pairs and its share of all, and between the last two n the power with which the number grows.
"""

import math
from collections.abc import Sequence

from orchestrator.run_file.groups import Pairs
from tests.orchestrator.pair_rules.test_rounds import run_lazily, synthetic

COUNTS = (20, 40, 80, 150, 300)
TOLERANCES = (1e-3, 3e-3)
SEEDS = 5
KINDS = ("connected", "clusters", "rough")


def pairs_needed(kind: str, n: int, tolerance: float) -> float:
    """The mean number of pairs over the seeds."""
    rule = Pairs(rule="lazy", tolerance=tolerance)
    return sum(len(run_lazily(rule, *synthetic(s, n, kind)).requests) for s in range(SEEDS)) / SEEDS


def main(counts: Sequence[int] = COUNTS) -> dict[tuple[str, float], list[float]]:
    """Print the table.

    Returns:
        By kind and tolerance, the numbers of pairs in the order of `counts`.
    """
    print(f"| landscape | tolerance | {' | '.join(f'n = {n}' for n in counts)} | grows like |")
    print("|---" * (len(counts) + 3) + "|")
    table = {}
    for kind in KINDS:
        for tolerance in TOLERANCES:
            needed = [pairs_needed(kind, n, tolerance) for n in counts]
            cells = [
                f"{m:,.0f} ({m / (n * (n - 1) / 2):.1%})"
                for n, m in zip(counts, needed, strict=True)
            ]
            power = math.log(needed[-1] / needed[-2]) / math.log(counts[-1] / counts[-2])
            print(f"| {kind} | {tolerance:g} | {' | '.join(cells)} | n^{power:.1f} |", flush=True)
            table[kind, tolerance] = needed
    return table


if __name__ == "__main__":
    main()
