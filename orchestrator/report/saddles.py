"""Tables of the ends of bars and of the cost of a run."""

from collections.abc import Sequence

from orchestrator.analysis.computing_cost import CostRow
from orchestrator.analysis.verified_barcode import VerifiedBarcode
from orchestrator.report.figure import Table


def bar_ends_table(verified: VerifiedBarcode) -> Table:
    """One row for each finite bar: the stationary point at the peak of its path, if there is one."""
    ends = verified.ends
    peaks = [end.peak for end in ends]
    return Table(
        {
            "minimum": [end.minimum for end in ends],
            "path": ["–".join(map(str, end.path)) for end in ends],
            "ends at": [end.kind.value for end in ends],
            "loss": [peak.loss if peak else None for peak in peaks],
            "gradient norm": [peak.gradient_norm if peak else None for peak in peaks],
            "lowest curvature": [_first(peak.eigenvalues) if peak else None for peak in peaks],
            "next curvature": [_first(peak.eigenvalues[1:]) if peak else None for peak in peaks],
            "±": [max(peak.bounds, default=None) if peak else None for peak in peaks],
            "reason": [end.reason for end in ends],
        }
    )


def cost_table(rows: Sequence[CostRow]) -> Table:
    """A table with one row for each kind of work."""
    return Table(
        {
            "work": [row.work for row in rows],
            "tasks": [row.tasks for row in rows],
            "epochs": [row.epochs for row in rows],
            "gradients": [row.gradients for row in rows],
            "products": [row.products for row in rows],
            "seconds": [row.seconds for row in rows],
        }
    )


def _first(values: Sequence[float]) -> float | None:
    return values[0] if values else None
