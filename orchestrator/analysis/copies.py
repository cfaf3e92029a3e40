"""The barcode of classes of symmetric copies, on the quotient by the symmetries of the network."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from orchestrator.pair_rules.path_requests import Pair
from orchestrator.telemetry.json_values import finite_or_none
from topo_core.homology.quotients import QuotientBarcode, quotient_barcode
from topo_core.homology.to_scores import to_score


@dataclass(frozen=True)
class Copies:
    """The classes of minima that are copies of each other under exact symmetries, and their barcode.

    Attributes:
        quotient: the elder barcode of the classes.
    """

    quotient: QuotientBarcode

    @cached_property
    def to_score(self) -> float:
        """The score of the barcode of classes."""
        return to_score(self.quotient.barcode)

    @property
    def classes(self) -> tuple[tuple[int, ...], ...]:
        """The minima of each class, lowest class first."""
        return tuple(self.quotient.members[bar.minimum] for bar in self.quotient.barcode.bars)

    def to_json(self) -> dict[str, Any]:
        """The key `quotient` of `reduce --json`; infinite numbers are null."""
        return {
            "classes": [list(members) for members in self.classes],
            "barcode": [
                {
                    "minimum": bar.minimum,
                    "birth": bar.birth,
                    "death": finite_or_none(bar.death),
                    "saddle": list(bar.saddle) if bar.saddle else None,
                }
                for bar in self.quotient.barcode.bars
            ],
            "to_score": finite_or_none(self.to_score),
        }


def copies_of(
    losses: Mapping[int, float], heights: Mapping[Pair, float], classes: Mapping[int, int]
) -> Copies:
    """Compute the barcode of classes of a run.

    Args:
        losses: of the minima, by number.
        heights: of the passes between them.
        classes: the class of each minimum, by number.
    """
    return Copies(quotient_barcode(losses, heights, classes))
