"""Estimates how accurate the barcode of a run is, and computes further results of its paths.

Two errors are estimated separately and never added. The sampling error is the amount by which the maximum of
the present paths may exceed the largest sampled loss. The convergence estimate is the amount by which bars
would shorten if the paths were optimised for longer. Neither is a bound.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.pair_rules.path_requests import Pair
from orchestrator.telemetry.json_values import finite_or_none
from topo_core.homology.convergence_estimate import ConvergenceEstimate, estimate_convergence
from topo_core.homology.dense_barcodes import DenseBarcode, dense_barcode
from topo_core.homology.merge_trees import MergeTree, merge_tree
from topo_core.homology.resampling import Jackknife, jackknife
from topo_core.homology.sampling_error import HeightInterval, SamplingError, estimate_sampling_error
from workers.storage.schema import PairRecord

JACKKNIFE_UP_TO = 300
"""Largest number of minima for which the jackknife is computed: its time grows with the cube of this number,
and is 2 s here."""


@dataclass(frozen=True)
class Assessment:
    """The accuracy of the barcode of index 0 by the elder rule.

    Attributes:
        sampling: the barcode with its sampling error.
        convergence: the change that a longer optimisation would make.
        tree: the merge tree: which passes merge which basins.
        dense: bars up to the first passage, and dips inside paths; None if some profiles were not read.
        jackknife: how much the score depends on the choice of minima; None for fewer than three minima or
            more than `JACKKNIFE_UP_TO`.
    """

    sampling: SamplingError
    convergence: ConvergenceEstimate
    tree: MergeTree
    dense: DenseBarcode | None
    jackknife: Jackknife | None

    def to_json(self) -> dict[str, Any]:
        """Keys of `reduce --json`; infinite numbers are null."""
        return {
            "sampling_error": _sampling_json(self.sampling),
            "convergence_estimate": {
                "remaining_fall": finite_or_none(self.convergence.largest_fall),
                "passes_not_converged": len(self.convergence.unconverged),
            },
            "merge_tree": _tree_json(self.tree),
            **_dense_json(self.dense),
            "jackknife": self.jackknife and _jackknife_json(self.jackknife),
        }


def assess(
    losses: Mapping[int, float],
    heights: Mapping[Pair, float],
    records: Mapping[Pair, PairRecord],
) -> Assessment:
    """Assess the elder barcode of a run.

    Args:
        losses: of the minima, by number.
        heights: of the passes between them.
        records: the record of each pass.
    """
    sampling = estimate_sampling_error(
        losses,
        {
            pair: HeightInterval(height, max(height, records[pair].height_high))
            for pair, height in heights.items()
        },
    )
    convergence = estimate_convergence(
        losses,
        heights,
        {pair: records[pair].remaining_fall for pair in heights},
        {pair for pair in heights if records[pair].outcome == "converged"},
    )
    profiles = {
        pair: (records[pair].positions, records[pair].losses)
        for pair in heights
        if len(records[pair].positions) > 1
    }
    dense = None
    if len(profiles) == len(heights):
        # Dips that are not deeper than the sampling error may be artefacts of the sampling.
        least = sampling.epsilon if sampling.estimated else 0.0
        dense = dense_barcode(losses, profiles, least=least)
    return Assessment(
        sampling,
        convergence,
        merge_tree(losses, heights),
        dense,
        jackknife(losses, heights) if 2 < len(losses) <= JACKKNIFE_UP_TO else None,
    )


def _sampling_json(sampling: SamplingError) -> dict[str, Any]:
    return {
        "kind": "estimate from the slopes between samples, not a bound",
        "epsilon": finite_or_none(sampling.epsilon),
        "to_score": finite_or_none(sampling.to_score),
        "to_score_high": finite_or_none(sampling.to_score_high),
        "bars": [
            {"minimum": bar.minimum, "death_high": finite_or_none(high)}
            for bar, high in zip(sampling.barcode.bars, sampling.deaths_high, strict=True)
        ],
    }


def _tree_json(tree: MergeTree) -> dict[str, Any]:
    return {
        "leaves": [{"minimum": leaf.minimum, "loss": leaf.loss} for leaf in tree.leaves],
        "joins": [
            {
                "height": join.height,
                "saddle": list(join.saddle),
                "children": list(join.children),
                "lowest": join.lowest,
            }
            for join in tree.joins
        ],
        "roots": list(tree.roots),
    }


def _dense_json(dense: DenseBarcode | None) -> dict[str, Any]:
    if dense is None:
        return {"first_passage": None, "dips": None}
    return {
        "first_passage": [
            {"minimum": bar.minimum, "birth": bar.birth, "death": finite_or_none(bar.death)}
            for bar in dense.minima.bars
        ],
        "dips": [
            {
                "i": dip.pair[0],
                "j": dip.pair[1],
                "position": dip.position,
                "loss": dip.loss,
                "depth": finite_or_none(dip.depth),
            }
            for dip in dense.dips
        ],
    }


def _jackknife_json(jack: Jackknife) -> dict[str, Any]:
    return {
        "standard_error": finite_or_none(jack.standard_error),
        "most_influential": jack.most_influential,
        "scores": {str(m): finite_or_none(score) for m, score in sorted(jack.scores.items())},
    }
