"""`toscore export`: write the results of a run in formats that other programs read."""

import difflib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import safetensors.torch
from numpy.typing import NDArray

from orchestrator.analysis.landscape import METHODS
from orchestrator.report.files import replace_file, writing_to
from orchestrator.run_file.errors import UserError
from orchestrator.runs.api import LoadedRun
from orchestrator.runs.pathsample import transition_network, write_pathsample
from orchestrator.runs.tables import TABLES
from topo_core.homology.barcodes import Interval
from topo_core.homology.to_scores import to_score


class Format(StrEnum):
    """The formats of `toscore export --format`."""

    PARQUET = "parquet"
    JSON = "json"
    NPZ = "npz"
    GUDHI = "gudhi"
    SAFETENSORS = "safetensors"
    TENSORBOARD = "tensorboard"
    PATHSAMPLE = "pathsample"


def parse_format(text: str) -> Format:
    """The format with a given name.

    Raises:
        UserError: there is no such format.
    """
    try:
        return Format(text)
    except ValueError:
        close = difflib.get_close_matches(text, list(Format), 1)
        hint = f"did you mean {close[0]}?" if close else f"choose one of {', '.join(Format)}."
        raise UserError(f"--format is {text!r}, which is not known; {hint}") from None


def export(run: LoadedRun, format_: Format, out: Path) -> list[Path]:
    """Write the results of a run in one format into a folder; returns the files written.

    Raises:
        UserError: the folder cannot be written to, a package is missing, or a minimum cannot be read.
    """
    with writing_to(out):
        out.mkdir(parents=True, exist_ok=True)
        return _WRITERS[format_](run, out)


def export_point(run: LoadedRun, pair: tuple[int, int], position: str, out: Path) -> Path:
    """Write the state dict of the network at a point of a path as safetensors; returns the file.

    Args:
        run: the run.
        pair: numbers of the two minima of the path.
        position: a fraction of the arc length, or `peak`.
        out: folder to write to.

    Raises:
        UserError: there is no such path or position, its points were not kept, the code that the store names
            is not trusted, or the folder cannot be written to.
    """
    try:
        where = "peak" if position == "peak" else float(position)
    except ValueError:
        raise UserError(f"--at is {position!r}: give a number from 0 to 1, or peak.") from None
    state = run.network_at(*pair, where)  # type: ignore[arg-type]
    file = out / f"path-{min(pair)}-{max(pair)}-at-{position}.safetensors"
    with writing_to(out):
        out.mkdir(parents=True, exist_ok=True)
        replace_file(file, safetensors.torch.save(state))
    return file


def parse_pair(text: str) -> tuple[int, int]:
    """Parse `3,7` or `3-7` as a pair of minima.

    Raises:
        UserError: the text has another form.
    """
    parts = text.replace("–", ",").replace("-", ",").split(",")
    if len(parts) == 2 and all(part.strip().isdigit() for part in parts):
        return int(parts[0]), int(parts[1])
    raise UserError(f"--path is {text!r}: give two minima, as in --path 0,3.")


def _parquet(run: LoadedRun, out: Path) -> list[Path]:
    """One file for each table; the metadata has the name of the run and whether it is complete."""
    files = []
    for name in TABLES:
        if name == "simplices" and not run.higher:
            continue
        table = run.table(name)
        described = {"toscore.run": run.name, "toscore.complete": json.dumps(run.complete)}
        table = table.replace_schema_metadata(described)
        file = out / f"{name}.parquet"
        part = file.with_name(file.name + ".part")
        pq.write_table(table, part, compression="zstd")
        part.replace(file)
        files.append(file)
    return files


def _json(run: LoadedRun, out: Path) -> list[Path]:
    """The output of `toscore reduce --json`."""
    file = out / f"{run.name}.json"
    replace_file(file, json.dumps(run.landscape.to_json(), allow_nan=False).encode())
    return [file]


def _npz(run: LoadedRun, out: Path) -> list[Path]:
    """Losses [n], heights [n, n], TO-scores, and for each barcode its bars [m, 2] of birth and death.

    For index 0 the minimum of each bar is given; for index k above 0 the minima of the simplices at which
    each bar is born [m, k + 1] and killed [m, k + 2].
    """
    arrays: dict[str, NDArray[Any]] = {"losses": run.losses, "heights": run.heights}
    for method in METHODS:
        bars = run.barcode(method).bars
        arrays[f"{method}_bars"] = _births_and_deaths(bars)
        arrays[f"{method}_minima"] = np.array([b.minimum for b in bars], dtype=np.int64)
        arrays[f"{method}_to_score"] = np.array(run.to_score(method))
    for index, barcode in run.higher.items():
        # No simplex ends an infinite bar, so its minima are -1.
        none = (-1,) * (index + 2)
        born, killed = [b.born for b in barcode.bars], [b.killed or none for b in barcode.bars]
        arrays[f"index_{index}_bars"] = _births_and_deaths(barcode.bars)
        arrays[f"index_{index}_born"] = np.array(born, dtype=np.int64).reshape(-1, index + 1)
        arrays[f"index_{index}_killed"] = np.array(killed, dtype=np.int64).reshape(-1, index + 2)
        arrays[f"index_{index}_to_score"] = np.array(to_score(barcode))
    file = out / f"{run.name}.npz"
    part = file.with_name(file.name + ".part")
    with part.open("wb") as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
    part.replace(file)
    return [file]


def _births_and_deaths(bars: Iterable[Interval]) -> NDArray[np.float64]:
    return np.array([(b.birth, b.death) for b in bars], dtype=np.float64).reshape(-1, 2)


def _gudhi(run: LoadedRun, out: Path) -> list[Path]:
    """GUDHI's text format: one file for each rule, one line `dimension birth death` for each bar.

    Bars of index 1 and higher are in the file of the elder rule, because it computes homology as they do.
    Algorithm 1 (`direct`) is defined for index 0 only.
    """
    files = []
    for method in METHODS:
        barcodes = [run.barcode(method), *(run.higher.values() if method == "elder" else ())]
        lines = [
            f"{bars.index} {bar.birth!r} {bar.death if math.isfinite(bar.death) else 'inf'}"
            for bars in barcodes
            for bar in bars.bars
        ]
        file = out / f"{run.name}-{method}.pers"
        replace_file(file, "".join(f"{line}\n" for line in lines).encode())
        files.append(file)
    return files


def _safetensors(run: LoadedRun, out: Path) -> list[Path]:
    """The state dict of every minimum, one file for each."""
    files = []
    for index in run.minima:
        file = out / f"minimum-{index}.safetensors"
        replace_file(file, safetensors.torch.save(run.minimum(index)))
        files.append(file)
    return files


def _tensorboard(run: LoadedRun, out: Path) -> list[Path]:
    """The histories of training and path optimisation as scalars, one folder for each minimum or path."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UserError(
            "TensorBoard is not installed: `pip install 'toscore[tensorboard]'`."
        ) from None
    folder = out / f"{run.name}-tensorboard"
    histories: list[tuple[str, Sequence[Mapping[str, float]]]] = [
        *((f"minimum-{index}", record.history) for index, record in sorted(run.minima.items())),
        *((f"path-{i}-{j}", run.path(i, j).history) for i, j in run.pairs),
    ]
    for name, rows in histories:
        kind = name.split("-")[0]
        if rows:
            for earlier in (folder / name).glob("events.out.tfevents.*"):
                earlier.unlink()  # otherwise a second export would duplicate every point
            with SummaryWriter(str(folder / name)) as writer:
                for row in rows:
                    for tag, value in row.items():
                        if tag != "epoch":
                            writer.add_scalar(f"{kind}/{tag}", value, int(row["epoch"]))
    return [folder]


def _pathsample(run: LoadedRun, out: Path) -> list[Path]:
    """min.data and ts.data of PATHSAMPLE: minima, and verified saddles with the minima that they join."""
    return write_pathsample(transition_network(run.landscape), out)


_WRITERS: Mapping[Format, Callable[[LoadedRun, Path], list[Path]]] = {
    Format.PARQUET: _parquet,
    Format.JSON: _json,
    Format.NPZ: _npz,
    Format.GUDHI: _gudhi,
    Format.SAFETENSORS: _safetensors,
    Format.TENSORBOARD: _tensorboard,
    Format.PATHSAMPLE: _pathsample,
}
