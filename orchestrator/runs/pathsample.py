"""Read and write transition networks as min.data and ts.data, the files of PATHSAMPLE and disconnectionDPS.

Both programs are by the Wales group. A row of min.data is a minimum: energy, logarithm of the product of the
positive Hessian eigenvalues, order of the point group, and three moments of inertia. A row of ts.data is a
saddle of index 1: the same first three columns, the numbers of the two minima that it joins (from 1), and the
moments of inertia. The coordinates are in other, binary files. The energies and connections are enough for a
barcode and a disconnectivity graph, but not to import the minima into a run.
"""

import math
from collections.abc import Iterator
from pathlib import Path

from orchestrator.analysis.landscape import Landscape
from orchestrator.run_file.errors import UserError
from topo_core.homology.transition_networks import Transition, TransitionNetwork
from workers.storage.schema import SaddleRecord

_NO_FREQUENCIES = "0.0 1"
"""Columns that have no meaning here: only the lowest eigenvalues are known, and a network has no point
group."""

_NO_INERTIA = "1.0 1.0 1.0"
"""Moments of inertia, which a network does not have; the format needs the columns."""


def transition_network(landscape: Landscape) -> TransitionNetwork:
    """The network of the minima and verified saddles of a run. Minima are numbered from 1.

    The minima of the run come first, in their order. They are followed by the minima that the run does not
    have but at which a descent from a saddle ends. A saddle that is the highest point of a path joins the two
    ends of the path; every saddle also joins the two minima at which its descents end.
    """
    listed = {number: position for position, number in enumerate(landscape.losses, 1)}
    losses = {position: landscape.losses[number] for number, position in listed.items()}
    others = {end.loss: len(losses) + k for k, end in enumerate(landscape.unlisted_ends, 1)}
    losses |= {position: loss for loss, position in others.items()}
    by_key = {landscape.minima[number].key: position for number, position in listed.items()}
    transitions = [
        Transition(f"{record.key} {k}", loss, ends)
        for record in landscape.saddles.values()
        for k, (loss, ends) in enumerate(_of_record(record, by_key, losses))
    ]
    return TransitionNetwork(losses, transitions)


def _of_record(
    record: SaddleRecord, by_key: dict[str, int], losses: dict[int, float]
) -> Iterator[tuple[float, tuple[int, int]]]:
    """Loss, and the two minima, of each saddle of a record for which both minima are known.

    An end that is not a minimum of the run is matched to the minimum of nearest loss.
    """
    if record.ended == "verified" and {*record.joins} <= by_key.keys():
        yield record.loss, (by_key[record.joins[0]], by_key[record.joins[1]])
    for k, loss in enumerate(record.saddle_losses):
        both = []
        for m in (2 * k, 2 * k + 1):
            position = by_key.get(record.ends[m])
            if position is None and math.isfinite(record.end_losses[m]):
                position = min(losses, key=lambda p: abs(losses[p] - record.end_losses[m]))
            both.append(position)
        first, second = both
        if first is not None and second is not None and first != second:
            yield loss, (first, second)


def write_pathsample(network: TransitionNetwork, folder: Path) -> list[Path]:
    """Write min.data and ts.data into an existing folder; returns the two files."""
    minima = "".join(
        f"{network.losses[position]!r} {_NO_FREQUENCIES} {_NO_INERTIA}\n"
        for position in sorted(network.losses)
    )
    saddles = "".join(
        f"{t.loss!r} {_NO_FREQUENCIES} {t.ends[0]} {t.ends[1]} {_NO_INERTIA}\n"
        for t in network.transitions
    )
    files = [folder / "min.data", folder / "ts.data"]
    for file, text in zip(files, (minima, saddles), strict=True):
        part = file.with_name(file.name + ".part")
        part.write_text(text)
        part.replace(file)
    return files


def read_pathsample(folder: str | Path) -> TransitionNetwork:
    """Read the transition network from min.data and ts.data in a folder.

    Rows of ts.data that join a minimum to itself are left out.

    Raises:
        UserError: a file cannot be read, or a row does not follow the format.
    """
    losses = {
        position: row[0] for position, row in enumerate(_rows(Path(folder) / "min.data", 1), 1)
    }
    transitions = []
    for number, row in enumerate(_rows(Path(folder) / "ts.data", 5), 1):
        ends = int(row[3]), int(row[4])
        if not {*ends} <= losses.keys():
            raise UserError(
                f"Row {number} of ts.data joins the minima {ends[0]} and {ends[1]}, but min.data has "
                f"{len(losses)} rows: give files of one database."
            )
        if ends[0] != ends[1]:
            transitions.append(Transition(number, row[0], ends))
    return TransitionNetwork(losses, transitions)


def _rows(file: Path, columns: int) -> Iterator[list[float]]:
    try:
        lines = file.read_text().splitlines()
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}).") from None
    for number, line in enumerate(lines, 1):
        try:  # Fortran may write an exponent as D instead of E
            row = [float(word.replace("D", "E").replace("d", "e")) for word in line.split()]
        except ValueError:
            row = []
        if not row and not line.strip():
            continue
        if len(row) < columns or not all(map(math.isfinite, row[:columns])):
            raise UserError(
                f"Row {number} of {file} is {line.strip()!r}; it must begin with {columns} finite "
                f"number{'s' if columns > 1 else ''}."
            )
        yield row
