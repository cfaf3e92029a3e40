"""The lowest pass from one minimum to a lower one, among the results of a run.

It is the end of the minimum's bar by Algorithm 1 of the paper, and an upper bound: the run may have missed a
lower minimum or a lower path.
"""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from orchestrator.analysis.landscape import Landscape
from orchestrator.run_file.models import RunFile
from topo_core.homology.bar_ends import EndKind

VERIFIED = "verified"
"""`SaddleRecord.ended` of a path whose highest point is a verified saddle."""

CHECKPOINT, POLISHED = 0, 1
"""Numbers of the minima in the run: first the checkpoint as it is, then the polished one if there is one."""


@dataclass(frozen=True)
class Polish:
    """The checkpoint before and after its polish.

    Attributes:
        done: whether it was polished; larger problems are polished with `minima.polish: "on"` only.
        loss_before, loss_after: losses.
        norm_before, norm_after: norms of the gradient over the whole training set.
    """

    done: bool
    loss_before: float
    loss_after: float
    norm_before: float
    norm_after: float

    def __str__(self) -> str:
        before = f"the loss {self.loss_before:.6g} and the gradient norm {self.norm_before:.2g}"
        if not self.done:
            return (
                f"The checkpoint has {before}. It was not polished, since the problem is large; "
                'minima.polish="on" polishes it.'
            )
        after = f"{self.loss_after:.6g} and {self.norm_after:.2g}"
        return f"The checkpoint has {before}, after its polish {after}."


@dataclass(frozen=True)
class Escape:
    """The lowest pass that a run has found from a minimum to a lower one.

    Attributes:
        loss: loss of the minimum.
        verdict: verdict on the minimum (see `MinimumRecord`); empty if it was not judged.
        searched: number of other minima of the run, without the checkpoint.
        lower: number of minima whose loss is lower by more than the tolerance of the run.
        to: number of the minimum that the lowest pass leads to; None if no path leads to a lower minimum.
        to_loss: loss of the minimum `to`; NaN if there is none.
        height: loss at the top of the pass; infinite if there is no pass.
        verified: whether the top of the pass is a verified saddle.
        polish: what the polish of the checkpoint changed; None if it was not asked for.
        minimum: number of the minimum in the run.
    """

    loss: float
    verdict: str
    searched: int
    lower: int
    to: int | None = None
    to_loss: float = math.nan
    height: float = math.inf
    verified: bool = False
    polish: "Polish | None" = None
    minimum: int = CHECKPOINT

    @property
    def barrier(self) -> float:
        """Height of the pass above the minimum."""
        return self.height - self.loss

    def to_json(self) -> dict[str, Any]:
        """All attributes and the barrier; infinite and unknown numbers are null."""
        values = {**asdict(self), "barrier": self.barrier}
        return {
            k: None if isinstance(v, float) and not math.isfinite(v) else v
            for k, v in values.items()
        }

    def __str__(self) -> str:
        start = f"The minimum has the loss {self.loss:.6g}"
        if self.polish is not None:
            start = f"{self.polish} {start}"
        if self.verdict and self.verdict != "minimum":
            start += f" and is not proved to be one ({self.verdict})"
        if self.to is None and self.lower:
            return (
                f"{start}; {self.lower} of {self.searched} other minima are lower, and no path to one of "
                "them is complete: continue the run, or see its failures in `toscore status`."
            )
        if self.to is None:
            return (
                f"{start}. None of the {self.searched} other minima is lower, so no pass to a lower minimum "
                "is known: raise minima.restarts.count or minima.restarts.spread."
            )
        if self.barrier <= 0:
            return (
                f"{start}; {self.lower} of {self.searched} other minima are lower. On a path to minimum "
                f"{self.to} of loss {self.to_loss:.6g} the loss does not rise above that, so there is no "
                "barrier."
            )
        kind = (
            "a verified saddle"
            if self.verified
            else "an upper bound: its highest point is not a verified saddle"
        )
        return (
            f"{start}; {self.lower} of {self.searched} other minima are lower. The lowest pass to one of "
            f"them has the height {self.height:.6g}, a barrier of {self.barrier:.3g} ({kind}), and leads to "
            f"minimum {self.to} of loss {self.to_loss:.6g}."
        )


def escape_of(
    landscape: Landscape, minimum: int = CHECKPOINT, checkpoint: int | None = None
) -> Escape:
    """The lowest pass from a minimum to a lower one, among the results of a run.

    Args:
        landscape: the results.
        minimum: number of the minimum.
        checkpoint: number of the checkpoint from which it was polished; None if there is none.

    Raises:
        KeyError: the minimum is not trained yet.
    """
    start = landscape.minima[minimum]
    others = {j: loss for j, loss in landscape.losses.items() if j not in (checkpoint, minimum)}
    lower = {j for j, loss in others.items() if loss < start.loss - landscape.tolerance}
    result = Escape(
        start.loss,
        start.verdict,
        len(others),
        len(lower),
        polish=None if checkpoint is None else _polish(landscape, checkpoint, minimum),
        minimum=minimum,
    )
    passes = {
        j: height
        for pair, height in landscape.heights.items()
        for j in lower
        if set(pair) == {minimum, j}
    }
    if not passes:
        return result
    to = min(passes, key=lambda j: (passes[j], j))
    pair = (min(minimum, to), max(minimum, to))
    ends = landscape.verified.ends if landscape.verified else ()
    verified = any(end.kind is EndKind.SADDLE and end.path == pair for end in ends)
    refined = landscape.saddles.get(pair)  # of a path at which no bar ends, too
    verified |= refined is not None and refined.ended == VERIFIED
    return replace(result, to=to, to_loss=others[to], height=passes[to], verified=verified)


def escape_of_run(run: RunFile, landscape: Landscape) -> Escape | None:
    """The lowest pass from the minimum that the pair rule `from` names; None for another rule, or before the
    minimum is trained.

    Args:
        run: the run file.
        landscape: the results of the run.
    """
    minimum, restarts = run.pairs.minimum, run.minima.restarts
    polished = restarts is not None and restarts.polished and minimum == POLISHED
    checkpoint = CHECKPOINT if polished and len(run.minima.from_) == 1 else None
    needed = {minimum} if checkpoint is None else {minimum, checkpoint}
    if run.pairs.rule != "from" or not needed <= landscape.minima.keys():
        return None
    return escape_of(landscape, minimum, checkpoint)


def _polish(landscape: Landscape, checkpoint: int, polished: int) -> Polish:
    before, after = landscape.minima[checkpoint], landscape.minima[polished]
    return Polish(
        after.polished, before.loss, after.loss, before.gradient_norm, after.gradient_norm
    )
