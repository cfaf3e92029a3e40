"""How much the TO-score depends on which minima were drawn."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from topo_core.homology.barcodes import BarcodeMethod, barcode_of
from topo_core.homology.minimum_graphs import Minimum, PassHeights, checked_graph
from topo_core.homology.to_scores import to_score


@dataclass(frozen=True)
class Jackknife:
    """The TO-score with one minimum left out.

    Attributes:
        scores: for each minimum, the score without it.
        standard_error: sqrt((n - 1) / n Σ (score - mean)²) (Tukey 1958). The score is a maximum
            over bars and not a smooth statistic, so this is a scale and not a confidence interval.
        most_influential: the minimum whose absence changes the score most.
    """

    scores: Mapping[Minimum, float]
    standard_error: float
    most_influential: Minimum


def jackknife(
    losses: Sequence[float] | Mapping[Minimum, float],
    heights: PassHeights,
    method: BarcodeMethod = "elder",
) -> Jackknife:
    """The TO-score without each of the minima in turn, and without the passes from it.

    Raises:
        ValueError: as for ``barcode``; fewer than two minima.
    """
    graph = checked_graph(losses, heights)
    count = len(graph.ids)
    if count < 2:
        raise ValueError(f"a jackknife needs two minima or more, and there are {count}.")
    whole = to_score(barcode_of(graph, method))
    scores = {
        minimum: to_score(barcode_of(graph, method, without=rank))
        for rank, minimum in enumerate(graph.ids)
    }
    mean = math.fsum(scores.values()) / count
    error = math.inf
    if math.isfinite(mean):
        square = math.fsum((score - mean) ** 2 for score in scores.values())
        error = math.sqrt((count - 1) / count * square)
    change = {
        minimum: 0.0 if score == whole else abs(score - whole) for minimum, score in scores.items()
    }
    return Jackknife(scores, error, max(change, key=change.__getitem__))
