"""How right the barcode of a run is, and what else its passes tell: intervals, merge tree, dips.

Two things are kept apart. The certificate bounds what dense sampling can have missed on the polygons
that were found. What a longer optimisation might still gain is an estimate from the last quarter of
each path's history; it is no bound, and is never added to the certificate.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.planning.pair_rules import Pair
from topo_core.homology.dense_barcodes import DenseBarcode, dense_barcode
from topo_core.homology.merge_trees import MergeTree, merge_tree
from topo_core.homology.sampling_error import (
    Certificate,
    Jackknife,
    certify,
    height_interval,
    jackknife,
)
from workers.storage.schema import PairRecord

JACKKNIFE_UP_TO = 300
"""Minima up to which the score without each of them is computed whenever a run is reduced."""


@dataclass(frozen=True)
class Certified:
    """Of index 0.

    Attributes:
        certificate: the elder barcode as value ± epsilon.
        tree: which passes merge which basins.
        dense: bars of first passage, and dips inside paths; None where profiles were not read.
        jackknife: how the score depends on which minima were drawn; None for
            fewer than three of them, and for very many.
        remaining_fall: the most that a pass which holds up a bar would still fall, extrapolated.
        unconverged: passes that hold up a bar and had not converged.
    """

    certificate: Certificate
    tree: MergeTree
    dense: DenseBarcode | None
    jackknife: Jackknife | None
    remaining_fall: float
    unconverged: int

    def to_json(self) -> dict[str, Any]:
        """Keys of `reduce --json`; what is infinite is null."""
        certificate, dense, jack = self.certificate, self.dense, self.jackknife
        return {
            "certificate": {
                "kind": "attained on the polygons that were found",
                "epsilon": _number(certificate.epsilon),
                "to_score": _number(certificate.to_score),
                "to_score_low": _number(certificate.to_score_low),
                "to_score_high": _number(certificate.to_score_high),
                "bars": [
                    {
                        "minimum": known.bar.minimum,
                        "death_low": _number(known.death_low),
                        "death_high": _number(known.death_high),
                    }
                    for known in certificate.bars
                ],
            },
            "convergence_estimate": {
                "remaining_fall": _number(self.remaining_fall),
                "passes_not_converged": self.unconverged,
            },
            "merge_tree": {
                "leaves": [
                    {"minimum": leaf.minimum, "loss": leaf.loss} for leaf in self.tree.leaves
                ],
                "joins": [
                    {
                        "height": join.height,
                        "saddle": list(join.saddle),
                        "children": list(join.children),
                        "lowest": join.lowest,
                    }
                    for join in self.tree.joins
                ],
                "roots": list(self.tree.roots),
            },
            "first_passage": dense
            and [
                {"minimum": bar.minimum, "birth": bar.birth, "death": _number(bar.death)}
                for bar in dense.minima.bars
            ],
            "dips": dense
            and [
                {
                    "i": dip.pair[0],
                    "j": dip.pair[1],
                    "position": dip.position,
                    "loss": dip.loss,
                    "depth": _number(dip.depth),
                }
                for dip in dense.dips
            ],
            "jackknife": jack
            and {
                "standard_error": _number(jack.standard_error),
                "most_influential": jack.most_influential,
                "scores": {str(m): _number(score) for m, score in sorted(jack.scores.items())},
            },
        }


def certified(
    losses: Mapping[int, float],
    heights: Mapping[Pair, float],
    records: Mapping[Pair, PairRecord],
) -> Certified:
    """The certificate of a run's passes.

    Args:
        losses: of the minima.
        heights: of the passes between them.
        records: of these passes.
    """
    intervals = {
        pair: height_interval(height, max(0.0, records[pair].height_high - records[pair].height))
        for pair, height in heights.items()
    }
    certificate = certify(losses, intervals)
    profiles = {
        pair: (records[pair].positions, records[pair].losses)
        for pair in heights
        if len(records[pair].positions) > 1
    }
    holding = [bar.saddle for bar in certificate.barcode.bars if bar.saddle]
    return Certified(
        certificate,
        merge_tree(losses, heights),
        # Shallower dips than the certificate are within what sampling can miss.
        dense_barcode(losses, profiles, least=certificate.epsilon)
        if len(profiles) == len(heights)
        else None,
        jackknife(losses, heights) if 2 < len(losses) <= JACKKNIFE_UP_TO else None,
        max((records[pair].remaining_fall for pair in holding), default=0.0),
        sum(records[pair].outcome != "converged" for pair in holding),
    )


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
