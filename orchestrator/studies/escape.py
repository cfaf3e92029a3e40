"""`toscore escape`: the lowest barrier that separates one minimum from a lower one.

A trained network is seldom stationary, so a run first polishes the checkpoint: the minimum in question is the
one in whose basin the checkpoint lies. It then searches for lower minima: it trains again from the checkpoint
after a random change of its weights, and it adds the minima that it finds at dips inside paths. The result is
the lowest pass to a lower minimum, which is the end of the minimum's bar by Algorithm 1 of the paper. It is
an upper bound, because the run may have missed a lower minimum or a lower path.
"""

import json
import math
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch

from orchestrator.analysis.landscape import Landscape
from orchestrator.report.files import replace_file, writing_to
from orchestrator.run_file.errors import BadRunFile
from orchestrator.run_file.locations import resolved
from orchestrator.run_file.models import RunFile
from orchestrator.run_file.reading import assign, parse, parse_override, read_values
from orchestrator.runs.api import LoadedRun
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


def escape_run(
    file: Path, checkpoint: Path | None = None, overrides: tuple[str, ...] = ()
) -> RunFile:
    """The run file of the search for passes from a minimum to lower ones.

    Args:
        file: a run file with the data, the network, the loss and the training.
        checkpoint: file of the minimum; by default the only checkpoint that `minima.from` names.
        overrides: changes of keys, each `key.sub=value`.

    Raises:
        BadRunFile: the run file or an override is invalid, or `minima.from` does not name exactly one
            checkpoint. Nothing has been written.
    """
    values = escape_values(read_values(file), checkpoint)
    for text in overrides:
        assign(values, *parse_override(text))
    run = parse(resolved(with_polish(values), file.parent))
    if len(run.minima.from_) != 1:
        raise BadRunFile(
            f"minima.from names {len(run.minima.from_)} checkpoints and escape asks about one: "
            "give it as the second argument."
        )
    return run


def escape_values(values: Mapping[str, Any], checkpoint: Path | None = None) -> dict[str, Any]:
    """The keys of the search run, derived from the keys of a run file. Pure.

    `minima.count` and `minima.recipes` are replaced, since nothing is trained from scratch; so are
    `pairs.rule` and `pairs.minimum`. The other keys of `minima` and `pairs` are kept. `with_polish` adds the
    polish of the checkpoint.
    """
    changed = deepcopy(dict(values))
    given = changed.get("minima") or {}
    minima = {k: v for k, v in given.items() if k not in ("count", "recipes")}
    if checkpoint is not None:
        minima["from"] = [str(checkpoint.resolve())]
    changed["minima"] = {"discover": True, "restarts": {}, **minima, "count": 0}
    changed["pairs"] = {**(changed.get("pairs") or {}), "rule": "from", "minimum": CHECKPOINT}
    changed["name"] = f"{changed.get('name', 'run')}-escape"
    return changed


def with_polish(values: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of the search run, with the polish of the checkpoint unless `minima.polish` is off. Pure.

    The paths then lead from the polished checkpoint.
    """
    minima = values["minima"]
    if minima.get("polish") == "off" or not isinstance(minima.get("restarts"), Mapping):
        return dict(values)
    restarts = {**minima["restarts"], "polished": True}
    return {
        **values,
        "minima": {**minima, "restarts": restarts},
        "pairs": {**values["pairs"], "minimum": POLISHED},
    }


def escape_of(landscape: Landscape, minimum: int = CHECKPOINT) -> Escape:
    """The lowest pass from a minimum to a lower one, among the results of a run.

    Args:
        landscape: the results.
        minimum: number of the minimum: `CHECKPOINT`, or `POLISHED` if the checkpoint was polished.

    Raises:
        KeyError: the minimum is not trained yet.
    """
    start = landscape.minima[minimum]
    others = {j: loss for j, loss in landscape.losses.items() if j not in (CHECKPOINT, minimum)}
    lower = {j for j, loss in others.items() if loss < start.loss - landscape.tolerance}
    result = Escape(
        start.loss,
        start.verdict,
        len(others),
        len(lower),
        polish=_polish(landscape) if minimum == POLISHED else None,
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


def _polish(landscape: Landscape) -> Polish:
    before, after = landscape.minima[CHECKPOINT], landscape.minima[POLISHED]
    return Polish(
        after.polished, before.loss, after.loss, before.gradient_norm, after.gradient_norm
    )


def write_path(run: LoadedRun, to: int, points: int, out: Path, minimum: int) -> list[Path]:
    """Write the path from a minimum to a lower one as checkpoints, with a table of them.

    Args:
        run: the run of the search.
        to: number of the minimum at the end of the path.
        points: number of checkpoints at equal distances along the path, both ends included; one more is
            written for the highest point.
        out: folder to write to.
        minimum: number of the minimum at the start of the path.

    Returns:
        The files: the checkpoints in the order of the path, and `path.json`, which gives the position of each
        as a fraction of the arc length.

    Raises:
        UserError: there is no such path, its points were not kept, or the folder cannot be written to.
    """
    peak = run.path(minimum, to).record.argmax_position
    positions: list[float] = sorted({*np.linspace(0.0, 1.0, points).tolist(), peak})
    if minimum > to:  # a path begins at the minimum with the smaller number
        positions = positions[::-1]
    files, table = [], []
    with writing_to(out):
        out.mkdir(parents=True, exist_ok=True)
        states = run.networks_at(minimum, to, positions)
        for number, (position, state) in enumerate(zip(positions, states, strict=True)):
            file = out / f"step-{number:03d}.safetensors"
            replace_file(file, safetensors.torch.save(state))
            files.append(file)
            table.append({"file": file.name, "position": position, "highest": position == peak})
        listing = out / "path.json"
        replace_file(listing, json.dumps(table, indent=2).encode())
    return [*files, listing]
