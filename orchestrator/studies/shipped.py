"""`toscore studies`: list the studies of this package, with the cost of each at each of its scales."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.studies.cost import StudyCost, study_cost
from orchestrator.studies.study import PREFIX, load_study, scales_of, shipped


@dataclass(frozen=True)
class ListedStudy:
    """A shipped study at one scale, with its description and cost."""

    study: str
    scale: str
    about: str
    cost: StudyCost

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def listed() -> Iterator[ListedStudy]:
    """All shipped studies at all their scales, sorted by name."""
    for name in shipped():
        for scale in scales_of(f"{PREFIX}{name}"):
            study = load_study(f"{PREFIX}{name}", [f"scale={scale}"])
            yield ListedStudy(name, scale, study.about, study_cost(study))


def view(items: Sequence[ListedStudy]) -> RenderableType:
    table = Table(box=None, pad_edge=False, padding=(0, 1))
    table.add_column("study")
    for heading in ("scale", "runs", "minima", "paths", "PFLOP"):
        table.add_column(heading, justify="left" if heading == "scale" else "right")
    last = ""
    for item in items:
        cost = item.cost
        table.add_row(
            f"{PREFIX}{item.study}" if item.study != last else "",
            item.scale,
            f"{cost.runs:,}",
            f"{cost.minima:,}",
            f"{cost.paths:,}",
            f"{cost.operations / 1e15:.3g}",
        )
        last = item.study
    abouts = {f"{PREFIX}{item.study}": item.about for item in items if item.scale == "full"}
    notes = Text("\n").join(Text(f"{name}: {about}") for name, about in abouts.items())
    footnote = (
        "PFLOP: 10¹⁵ floating-point operations, counted on one example of each network. "
        "Hours on this machine: toscore plan study:NAME --set scale=reduced."
    )
    return Group(table, Text(), notes, Text(), Text(footnote, style="dim"))
