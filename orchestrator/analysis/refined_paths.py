"""Paths whose peaks were followed to saddles: their records and stationary points."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from orchestrator.pair_rules.path_requests import Pair
from orchestrator.planning.plan import Plan
from orchestrator.planning.saddle_refinement import saddle_task
from topo_core.homology.bar_ends import RefinedPeak
from workers.storage.schema import PairRecord, SaddleRecord


def saddles_of_paths(
    plan: Plan, passes: Mapping[Pair, PairRecord], records: Iterable[SaddleRecord]
) -> dict[Pair, SaddleRecord]:
    """The records of the saddle tasks of the given paths, by pair.

    Args:
        plan: of the run.
        passes: the record of the best path of each pair.
        records: of all saddle tasks in the store, including those of other paths.
    """
    pair_of = {record.key: pair for pair, record in passes.items()}
    return {
        pair_of[record.path]: record
        for record in records
        if record.path in pair_of
        and record.key == saddle_task(plan, pair_of[record.path], record.path).key
    }


def with_saddle_results(record: PairRecord, saddle: SaddleRecord | None) -> PairRecord:
    """The record of a path, with the results of its saddle task if these made the path lower.

    A path that starts from a verified saddle is as low before its saddle task, up to the rounding and the
    sampling error of its height; then the results of the task count, which are exact.
    """
    if saddle is None:
        return record
    verified = saddle.ended == "verified"
    as_low = verified and saddle.height <= record.height_high
    if not (saddle.height < record.height or as_low):
        return record
    return replace(
        record,
        object=saddle.object,
        **saddle.measures,
        outcome="converged" if verified else record.outcome,
        reason=f"{saddle.reason}." if verified else record.reason,
        remaining_fall=0.0 if verified else record.remaining_fall,
    )


def peaks_of(plan: Plan, saddles: Mapping[Pair, SaddleRecord]) -> dict[Pair, RefinedPeak]:
    """The stationary points at the highest points of the paths, by pair.

    Args:
        plan: of the run.
        saddles: the records of the saddle tasks, by pair.
    """
    number = {key: index for index, key in enumerate(plan.minimum_keys)}
    return {
        pair: RefinedPeak(
            record.verdict,
            record.loss,
            record.gradient_norm,
            tuple(record.eigenvalues),
            tuple(record.eigenvalue_bounds),
            _ends(record, number),
        )
        for pair, record in saddles.items()
    }


def _ends(record: SaddleRecord, number: Mapping[str, int]) -> Pair | None:
    """The numbers of the two minima that a saddle joins; None if the plan lacks one of them."""
    if len(record.joins) != 2 or not all(key in number for key in record.joins):
        return None
    first, second = record.joins
    return number[first], number[second]
