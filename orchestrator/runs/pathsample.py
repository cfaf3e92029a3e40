"""The files min.data and ts.data of PATHSAMPLE and disconnectionDPS (Wales group): a transition network.

A row of min.data is a minimum: energy, logarithm of the product of the positive Hessian eigenvalues, order of
the point group, and three moments of inertia. A row of ts.data is a saddle of index 1: the first three of
these, the numbers of the two minima that it joins (from 1), and the moments of inertia. Their points are in
other files, in a binary format of that program, so these two give energies and connections: enough for a
barcode and a disconnectivity graph, not for the minima of a run.
"""

import math
from collections.abc import Iterator
from pathlib import Path

from orchestrator.analysis.landscape import Landscape
from orchestrator.run_file.errors import UserError
from topo_core.homology.transition_networks import Transition, TransitionNetwork
from workers.storage.schema import SaddleRecord

_NO_FREQUENCIES = "0.0 1"
"""The product of eigenvalues is not known (only the lowest ones are), and a network has no point group."""

_NO_INERTIA = "1.0 1.0 1.0"


def transition_network(landscape: Landscape) -> TransitionNetwork:
    """The minima and verified saddles of a run; minima are numbered from 1.

    First the minima of the run in their order, then those at which descents from saddles end and that the run
    does not have. A saddle that is the highest point of a path joins the ends of the path, and every saddle
    the minima below its two sides.
    """
    listed = {number: place for place, number in enumerate(landscape.losses, 1)}
    losses = {place: landscape.losses[number] for number, place in listed.items()}
    others = {end.loss: len(losses) + k for k, end in enumerate(landscape.unlisted_ends, 1)}
    losses |= {place: loss for loss, place in others.items()}
    by_key = {landscape.minima[number].key: place for number, place in listed.items()}
    transitions = [
        Transition(f"{record.key} {k}", loss, ends)
        for record in landscape.saddles.values()
        for k, (loss, ends) in enumerate(_of_record(record, by_key, losses))
    ]
    return TransitionNetwork(losses, transitions)


def _of_record(
    record: SaddleRecord, by_key: dict[str, int], losses: dict[int, float]
) -> Iterator[tuple[float, tuple[int, int]]]:
    """Loss and ends of each saddle of a record whose two minima are known."""
    if record.ended == "verified" and {*record.joins} <= by_key.keys():
        yield record.loss, (by_key[record.joins[0]], by_key[record.joins[1]])
    for k, loss in enumerate(record.saddle_losses):
        both = []
        for m in (2 * k, 2 * k + 1):
            place = by_key.get(record.ends[m])
            if place is None and math.isfinite(record.end_losses[m]):
                place = min(losses, key=lambda p: abs(losses[p] - record.end_losses[m]))
            both.append(place)
        first, second = both
        if first is not None and second is not None and first != second:
            yield loss, (first, second)


def write_pathsample(network: TransitionNetwork, folder: Path) -> list[Path]:
    """Write min.data and ts.data into a folder that exists."""
    minima = "".join(
        f"{network.losses[place]!r} {_NO_FREQUENCIES} {_NO_INERTIA}\n"
        for place in sorted(network.losses)
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
    """The transition network of the min.data and ts.data in a folder; its ``barcode`` is that of the saddles.

    Raises:
        UserError: a file is missing, or a row of it is not what the format says.
    """
    losses = {place: row[0] for place, row in enumerate(_rows(Path(folder) / "min.data", 1), 1)}
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
        try:  # Fortran writes exponents with a D
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
