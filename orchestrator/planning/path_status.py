"""The status of the paths of a run: the records of the passes, and the numbers of finished and open paths."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from orchestrator.pair_rules.path_requests import Pair, PathRequest
from orchestrator.planning.plan import Plan
from workers.storage.schema import PairRecord


@dataclass(frozen=True)
class PairCounts:
    """Numbers of pairs of minima.

    Attributes:
        total: all pairs of n minima, n (n - 1) / 2.
        done: pairs with a finished path.
        skipped: pairs that the rule leaves out, or has shown to be unnecessary.
        failed: pairs whose path or one of whose minima failed; `toscore retry` repeats these.
        waiting: paths of the present round of an adaptive rule that are not finished.
    """

    total: int
    done: int
    skipped: int
    failed: int
    waiting: int = 0

    @property
    def open(self) -> int:
        """Number of paths that are known to be needed and are not finished."""
        return max(self.waiting, self.total - self.done - self.skipped - self.failed)


@dataclass(frozen=True)
class PathStatus:
    """The passes of a run, the numbers of pairs, and the failed paths.

    Attributes:
        passes: the record of the best path of each pair.
        counts: the numbers of pairs.
        failed: keys of the failed paths of the plan, including those that start from other paths.
    """

    passes: Mapping[Pair, PairRecord]
    counts: PairCounts
    failed: frozenset[str] = frozenset()


def path_status(
    plan: Plan,
    losses: Mapping[int, float],
    records: Collection[PairRecord],
    failed: Collection[str],
) -> PathStatus:
    """Compute the status of the paths from the records and failures of the store.

    Args:
        plan: of the run.
        losses: of the finished minima, by number.
        records: of all finished paths in the store, including those of other plans.
        failed: keys of failed tasks.
    """
    dead = {i for i, key in enumerate(plan.minimum_keys) if key in failed}
    if plan.adaptive:
        return _of_rounds(plan, losses, records, failed, dead)
    wanted = {plan.pair_key(pair): pair for pair in plan.pairs()}
    passes = {wanted[record.key]: record for record in records if record.key in wanted}
    failed_pairs = sum(
        1
        for key, pair in wanted.items()
        if pair not in passes and (key in failed or dead & set(pair))
    )
    total = _all_pairs(plan)
    counts = PairCounts(total, len(passes), total - len(wanted), failed_pairs)
    return PathStatus(passes, counts, frozenset(wanted.keys() & {*failed}))


def _of_rounds(
    plan: Plan,
    losses: Mapping[int, float],
    records: Collection[PairRecord],
    failed: Collection[str],
    dead: Collection[int],
) -> PathStatus:
    total, count = _all_pairs(plan), len(plan.minima)
    lost = total - (count - len(dead)) * (count - len(dead) - 1) // 2
    if len(losses) + len(dead) < count:  # paths are chosen once all minima are finished
        return PathStatus({}, PairCounts(total, 0, 0, lost))
    by_key = {record.key: record for record in records}
    rounds = plan.rounds(losses)

    def height(request: PathRequest) -> float | None:
        record = by_key.get(plan.request_key(request, rounds))
        return record.height if record else None

    rounds.advance(height, lambda request: plan.request_key(request, rounds) in failed)
    passes: dict[Pair, PairRecord] = {}
    keys = [plan.request_key(request, rounds) for request in rounds.requests]
    for request, key in zip(rounds.requests, keys, strict=True):
        record = by_key.get(key)
        best = passes.get(request.pair)
        if record and (best is None or record.height <= best.height):
            passes[request.pair] = record
    without = {o.pair for o in rounds.requests if o.pair not in passes}
    broken = sum(bool(rounds.known.failed[pair]) for pair in without)
    waiting = {request.pair for request in rounds.waiting} - passes.keys()
    skipped = total - lost - len(passes) - broken - len(waiting)
    counts = PairCounts(total, len(passes), skipped, lost + broken, len(rounds.waiting))
    return PathStatus(passes, counts, frozenset(key for key in keys if key in failed))


def _all_pairs(plan: Plan) -> int:
    n = len(plan.minima)
    return n * (n - 1) // 2
