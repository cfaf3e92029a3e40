"""Summarises the verdicts of the minima of a run: which of them are verified to be minima."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.telemetry.json_values import finite_or_none
from workers.storage.schema import MinimumRecord

MINIMUM, FLAT = "minimum", "flat"


@dataclass(frozen=True)
class Verdicts:
    """The verdicts of the points at which the training of a run ended.

    Attributes:
        counts: number of points with each verdict; points that were not judged have an empty verdict.
        up_to_symmetry: number of flat points that are minima up to exact symmetries of the network: these
            explain all directions without curvature, and all other curvatures are positive.
        gradient_norm: the largest gradient norm of the verified minima; NaN if there are none.
        curvature: the lowest Hessian eigenvalue of the verified minima; NaN if there are none.
        curvature_bound: error bound of that eigenvalue.
    """

    counts: Mapping[str, int]
    up_to_symmetry: int
    gradient_norm: float
    curvature: float
    curvature_bound: float

    @property
    def total(self) -> int:
        """Number of all points."""
        return sum(self.counts.values())

    @property
    def judged(self) -> int:
        """Number of points that were judged."""
        return self.total - self.counts.get("", 0)

    @property
    def minima(self) -> int:
        """Number of points that are verified minima."""
        return self.counts.get(MINIMUM, 0)

    def sentence(self) -> str:
        """One sentence about all points, with what to do if none is a verified minimum."""
        if not self.judged:
            return (
                f"None of the {self.total} points was judged: bars are about points where training "
                "stopped; set minima.polish to judge them."
            )
        others = [
            self._counted(verdict, count)
            for verdict, count in sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))
            if verdict != MINIMUM
        ]
        rest = f"; {', '.join(others)}" if others else ""
        if self.up_to_symmetry == self.total:
            return (
                f"All {self.total} points are minima up to exact symmetries of the network: these "
                "explain all directions without curvature."
            )
        if not self.minima and self.counts.get("kink") == self.total:
            return (
                f"None of the {self.total} points can be verified as a minimum{rest}: the gradient jumps "
                "there, as with ReLU and max pooling; with a smooth activation such as tanh or softplus "
                "minima can be verified."
            )
        if not self.minima:
            return (
                f"None of the {self.total} points is a minimum{rest}: bars are about points where "
                "training stopped; add loss.ridge or minima.polish."
            )
        return (
            f"{self.minima} of {self.total} are minima: ‖∇L‖ ≤ {self.gradient_norm:.1g}, lowest "
            f"curvature {self.curvature:.2g} ± {self.curvature_bound:.1g}{rest}."
        )

    def _counted(self, verdict: str, count: int) -> str:
        counted = f"{count} {verdict or 'not judged'}"
        if verdict == FLAT and self.up_to_symmetry:
            counted += f" ({self.up_to_symmetry} of them minima up to exact symmetries)"
        return counted

    def to_json(self) -> dict[str, Any]:
        """The key `verdicts` of `reduce --json`."""
        return {
            "minima": self.minima,
            "minima_up_to_symmetry": self.up_to_symmetry,
            "judged": self.judged,
            "counts": {verdict or "not judged": n for verdict, n in sorted(self.counts.items())},
            "gradient_norm": finite_or_none(self.gradient_norm),
            "lowest_curvature": finite_or_none(self.curvature),
            "lowest_curvature_bound": finite_or_none(self.curvature_bound),
        }


def verdicts_of(records: Iterable[MinimumRecord]) -> Verdicts:
    """Summarise the verdicts in the records of minima."""
    records = list(records)
    minima = [record for record in records if record.verdict == MINIMUM]
    curvatures = [
        (record.eigenvalues[0], record.eigenvalue_bounds[0])
        for record in minima
        if len(record.eigenvalues)
    ]
    curvature, bound = min(curvatures, default=(math.nan, math.nan))
    return Verdicts(
        Counter(record.verdict for record in records),
        sum(
            record.verdict == FLAT and record.zero_modes == record.symmetry_modes > 0
            for record in records
        ),
        max((record.gradient_norm for record in minima), default=math.nan),
        curvature,
        bound,
    )
