"""`reduce --verify-saddles`: search for the saddles at the passes that hold up bars."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from rich.table import Table

from orchestrator.analysis.landscape import Landscape
from orchestrator.pair_rules.orders import Pair
from orchestrator.run_file.errors import UserError
from orchestrator.runs.stored_run import StartedRun
from topo_core.critical_points.saddle_search import Saddle, SaddleSettings
from workers.execution.saddle_check import exact_objective, verify_peak
from workers.problems.evaluation import prepare
from workers.problems.loaded_problem import load_problem
from workers.problems.user_code import BadReference
from workers.storage.run_store import Damaged

SETTINGS = SaddleSettings(
    climb=60, polish=4, lanczos=24, tolerance=0.05, radius=1.0, difference=1e-2
)
"""Settings for networks, whose gradients take a pass over the training set: about a hundred of them. The
search stays between the neighbours of the peak. A gradient counts as zero if it changes the loss by at most a
twentieth of the barrier over one spacing. Curvature is measured over a hundredth of a spacing, because over
shorter distances single kinks dominate it."""


@dataclass(frozen=True)
class Verified:
    """A pass, and the saddle at its peak; None where the higher end is the highest point."""

    pair: Pair
    saddle: Saddle | None

    def to_json(self) -> dict[str, Any]:
        """One entry of `saddles`."""
        i, j = self.pair
        if self.saddle is None:
            return {"i": i, "j": j, "verdict": "no barrier"}
        saddle = self.saddle
        return {
            "i": i,
            "j": j,
            "verdict": saddle.verdict,
            "loss": saddle.loss,
            "peak_loss": saddle.peak_loss,
            "barrier": saddle.barrier,
            "barrier_left": saddle.barrier_left,
            "distance": saddle.distance,
            "peak_gradient_norm": saddle.peak_gradient_norm,
            "gradient_norm": saddle.gradient_norm,
            "stationary": saddle.stationary,
            "negative_eigenvalues": saddle.negative,
            "eigenvalues": list(saddle.eigenvalues),
            "kink": saddle.kink,
            "flat": saddle.flat,
            "gradient_evaluations": saddle.gradient_evaluations,
        }


def verify_saddles(run: StartedRun, landscape: Landscape) -> Iterator[Verified]:
    """Check the passes at which elder bars end, on this machine, in the order of the bars.

    Raises:
        UserError: the data or the network of the run is not here, or a path was not kept.
    """
    run.check_code()
    # The search needs exact gradients, which vanish at a saddle.
    evaluation = replace(run.evaluation, precision="float32")
    if evaluation.device != "cpu" and not torch.cuda.is_available():
        evaluation = replace(evaluation, device="cpu")
    prepare(evaluation)
    try:
        objective = exact_objective(load_problem(run.plan.problem, evaluation))
    except BadReference as error:
        raise UserError(f"--verify-saddles needs the data and the network: {error}") from None
    for bar in landscape.barcodes["elder"].bars:
        if bar.saddle is None:
            continue
        record = landscape.passes[bar.saddle]
        try:
            path = run.store.read_path(record.object)["points"].to(evaluation.device)
        except Damaged as error:
            raise UserError(
                f"--verify-saddles needs the points of the path {bar.saddle[0]}–{bar.saddle[1]}: "
                f"{error}; start the run again to make them."
            ) from None
        saddle = verify_peak(
            objective, path, record.argmax_position, SETTINGS, seed=run.plan.run.seed
        )
        yield Verified(bar.saddle, saddle)


def saddles_view(checks: list[Verified]) -> Table:
    """A table for a terminal."""
    table = Table(box=None, pad_edge=False, padding=(0, 1))
    for name in (
        "pass",
        "verdict",
        "peak",
        "barrier",
        "left",
        "gradient",
        "negative",
        "lowest eigenvalue",
    ):
        table.add_column(name, justify="left" if name in ("pass", "verdict") else "right")
    for one in checks:
        pair, saddle = f"{one.pair[0]}–{one.pair[1]}", one.saddle
        if saddle is None:
            table.add_row(pair, "no barrier")
            continue
        table.add_row(
            pair,
            saddle.verdict,
            f"{saddle.peak_loss:.4g}",
            f"{saddle.barrier:.3g}",
            f"{max(saddle.barrier_left, 0.0):.3g}",
            f"{saddle.gradient_norm:.1e}",
            str(saddle.negative),
            f"{saddle.eigenvalues[0]:.2g}",
        )
    return table
