"""How hard it is to leave one minimum: a run that searches lower minima and passes, and its answer.

Lower minima are searched for by restarts from the checkpoint with changed weights, and by dips inside paths.
The answer is the end of the minimum's bar by Algorithm 1 of the paper: the lowest pass to a lower minimum.
It is an upper bound, since a lower minimum or a lower path may exist that the run has not met.
"""

import json
import math
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch

from orchestrator.analysis.landscape import Landscape
from orchestrator.report.write import replace_file, writing_to
from orchestrator.run_file.errors import BadRunFile
from orchestrator.run_file.locations import resolved
from orchestrator.run_file.models import RunFile
from orchestrator.run_file.reading import assign, parse, parse_override, read_values
from orchestrator.runs.api import LoadedRun
from topo_core.homology.bar_ends import EndKind

START = 0
"""Number of the checkpoint among the minima of the run."""


@dataclass(frozen=True)
class Escape:
    """The lowest pass out of a minimum that a run has found.

    Attributes:
        loss: of the minimum.
        verdict: what the minimum is; empty where it was not judged.
        searched: how many other minima the run has.
        lower: how many of them are lower by more than the tolerance.
        to: number of the minimum that the lowest pass leads to; None where none is lower.
        to_loss: its loss.
        height: of the pass; infinite where there is none.
        verified: whether the pass ends at a verified saddle.
    """

    loss: float
    verdict: str
    searched: int
    lower: int
    to: int | None = None
    to_loss: float = math.nan
    height: float = math.inf
    verified: bool = False

    @property
    def barrier(self) -> float:
        """Height of the pass above the minimum."""
        return self.height - self.loss

    def to_json(self) -> dict[str, Any]:
        """Infinite numbers and those that are not known are null."""
        values = {**asdict(self), "barrier": self.barrier}
        return {
            k: None if isinstance(v, float) and not math.isfinite(v) else v
            for k, v in values.items()
        }

    def __str__(self) -> str:
        start = f"The minimum has the loss {self.loss:.6g}"
        if self.verdict and self.verdict != "minimum":
            start += f" and is not proved to be one ({self.verdict})"
        if self.to is None:
            return (
                f"{start}. Of {self.searched} other minima none is lower, so no way out is known: raise "
                "minima.restarts.count or its spread."
            )
        kind = (
            "a verified saddle"
            if self.verified
            else "an upper bound, which no verified saddle confirms"
        )
        return (
            f"{start}; {self.lower} of {self.searched} other minima are lower. The lowest pass to one of "
            f"them has the height {self.height:.6g}, a barrier of {self.barrier:.3g} ({kind}), and leads to "
            f"minimum {self.to} of loss {self.to_loss:.6g}."
        )


def escape_run(
    file: Path, checkpoint: Path | None = None, overrides: tuple[str, ...] = ()
) -> RunFile:
    """The run that searches the ways out of a minimum.

    Args:
        file: a run file with the data, the network, the loss and the training.
        checkpoint: of the minimum; by default the only one that `minima.from` names.
        overrides: `key.sub=value`.

    Raises:
        BadRunFile: one sentence; nothing has been written.
    """
    values = escape_values(read_values(file), checkpoint)
    for text in overrides:
        assign(values, *parse_override(text))
    run = parse(resolved(values, file.parent))
    if len(run.minima.from_) != 1:
        raise BadRunFile(
            f"minima.from names {len(run.minima.from_)} checkpoints and escape asks about one: "
            "give it as the second argument."
        )
    return run


def escape_values(values: Mapping[str, Any], checkpoint: Path | None = None) -> dict[str, Any]:
    """Keys of the run, from those of a run file. Pure.

    The keys of `minima:` that say how many are trained are replaced; what the file says of restarts and pairs
    is kept.
    """
    changed = deepcopy(dict(values))
    given = changed.get("minima") or {}
    minima = {k: v for k, v in given.items() if k not in ("count", "recipes")}
    if checkpoint is not None:
        minima["from"] = [str(checkpoint.resolve())]
    changed["minima"] = {"discover": True, "restarts": {}, **minima, "count": 0}
    changed["pairs"] = {**(changed.get("pairs") or {}), "rule": "from", "minimum": START}
    changed["name"] = f"{changed.get('name', 'run')}-escape"
    return changed


def escape_of(landscape: Landscape, minimum: int = START) -> Escape:
    """The lowest pass out of a minimum of a reduced run.

    Raises:
        KeyError: the run has no such minimum yet.
    """
    start = landscape.minima[minimum]
    losses = landscape.losses
    lower = {j for j, loss in losses.items() if loss < start.loss - landscape.tolerance}
    common = Escape(start.loss, start.verdict, len(losses) - 1, len(lower))
    passes = {
        j: height
        for pair, height in landscape.heights.items()
        for j in lower
        if set(pair) == {minimum, j}
    }
    if not passes:
        return common
    to = min(passes, key=lambda j: (passes[j], j))
    ends = landscape.verified.ends if landscape.verified else ()
    verified = any(
        end.kind is EndKind.SADDLE and end.path and set(end.path) == {minimum, to} for end in ends
    )
    return Escape(
        common.loss,
        common.verdict,
        common.searched,
        common.lower,
        to,
        losses[to],
        passes[to],
        verified,
    )


def write_path(run: LoadedRun, to: int, points: int, out: Path, minimum: int = START) -> list[Path]:
    """Write the path out of a minimum as checkpoints, and a table of them.

    Args:
        run: of the escape.
        to: the minimum that the path leads to.
        points: checkpoints at equal arc length, the ends included; the highest point is written beside them.
        out: folder to write to.
        minimum: that the path leads out of.

    Returns:
        The files: checkpoints from the minimum to the lower one, and `path.json`, which has the fraction of
        the arc length of each.

    Raises:
        UserError: the points were not kept, or the folder cannot be written to.
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
