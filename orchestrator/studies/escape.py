"""`toscore escape`: the lowest barrier that separates one minimum from a lower one.

A trained network is seldom stationary, so a run first polishes the checkpoint: the minimum in question is the
one in whose basin the checkpoint lies. It then searches for lower minima: it trains again from the checkpoint
after a random change of its weights, and it adds the minima that it finds at dips inside paths. The result is
the lowest pass to a lower minimum, which is the end of the minimum's bar by Algorithm 1 of the paper. It is
an upper bound, because the run may have missed a lower minimum or a lower path.
"""

import json
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch

from orchestrator.analysis.escape import CHECKPOINT, POLISHED
from orchestrator.report.files import replace_file, writing_to
from orchestrator.run_file.errors import BadRunFile
from orchestrator.run_file.locations import resolved
from orchestrator.run_file.models import RunFile
from orchestrator.run_file.reading import assign, parse, parse_override, read_values
from orchestrator.runs.api import LoadedRun


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
