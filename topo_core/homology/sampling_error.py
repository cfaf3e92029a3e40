"""How right a height, a barcode and a TO-score are.

A height is a number attained on the polygon that was found, never "the pass". What is certified is
how far that number can be from the highest loss of that polygon on the whole training set: what the
dense sampling can have missed, and what a subset of the training data can have moved. Persistence
is stable (Cohen-Steiner, Edelsbrunner & Harer 2007): values that are off by at most epsilon move
the barcode by at most epsilon in the bottleneck distance.

What a longer optimisation might still gain is an estimate and no bound (``Evidence``), and is no
part of any of this.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from topo_core.homology.barcodes import Bar, Barcode, Method, barcode, barcode_of
from topo_core.homology.minimum_graph import Heights, Minimum, Pair, check_passes
from topo_core.homology.to_scores import to_score

_SIGMAS = 2.0


@dataclass(frozen=True)
class HeightInterval:
    """Where the highest loss of a polygon (or of a simplex) is.

    Attributes:
        value: the highest loss that was evaluated on it.
        low, high: bounds; ``low`` is ``value`` where the whole training set was used.
    """

    value: float
    low: float
    high: float


def height_interval(
    value: float, bracket: float, *, standard_error: float = 0.0, sigmas: float = _SIGMAS
) -> HeightInterval:
    """The interval of a height.

    Args:
        value: the dense maximum.
        bracket: what evaluation between the samples may still add (``Profile.bracket``).
        standard_error: of the mean loss at the peak, where a subset of the training set was used.
        sigmas: standard errors allowed for.
    """
    spread = sigmas * standard_error
    return HeightInterval(value, value - spread, value + bracket + spread)


def standard_error(sample_losses: Sequence[float], population: int) -> float:
    """Of the mean of ``sample_losses``, drawn without replacement from ``population`` samples.

    0 for the whole population, infinite for a single one of many.
    """
    count = len(sample_losses)
    if count >= population:
        return 0.0
    if count < 2:
        return math.inf
    mean = math.fsum(sample_losses) / count
    variance = math.fsum((loss - mean) ** 2 for loss in sample_losses) / (count - 1)
    return math.sqrt(variance / count * (1 - count / population))


@dataclass(frozen=True)
class CertifiedBar:
    """A bar and the bounds of its death; its birth is within the error of the losses."""

    bar: Bar
    death_low: float
    death_high: float


@dataclass(frozen=True)
class Certificate:
    """A barcode as value ± epsilon.

    Attributes:
        barcode: from the values of the heights.
        bars: its bars, with bounds.
        epsilon: no bar is off by more, in the bottleneck distance.
        to_score: of the barcode, off by no more than epsilon.
        to_score_low, to_score_high: tighter bounds of it.
    """

    barcode: Barcode
    bars: tuple[CertifiedBar, ...]
    epsilon: float
    to_score: float
    to_score_low: float
    to_score_high: float


def certify(
    losses: Sequence[float] | Mapping[Minimum, float],
    intervals: Mapping[Pair, HeightInterval],
    method: Method = "elder",
    *,
    loss_error: float = 0.0,
) -> Certificate:
    """The barcode of minima with the consequences of what is not known of their passes.

    Deaths only grow with heights, so those of the lowest and of the highest heights are their
    bounds. That is sharper than the largest error of any height: an uncertain pass that holds up
    no bar does no harm.

    Args:
        losses: of the minima.
        intervals: of the passes.
        method: as for ``barcode``.
        loss_error: bound on the error of the losses of the minima.

    Raises:
        ValueError: as for ``barcode``.
    """
    births = dict(losses) if isinstance(losses, Mapping) else dict(enumerate(losses))
    found = barcode(births, {pair: h.value for pair, h in intervals.items()}, method)
    # A path contains its ends, whatever a standard error says.
    lowest = barcode(
        births,
        {(i, j): max(h.low, births[i], births[j]) for (i, j), h in intervals.items()},
        method,
    )
    highest = barcode(births, {pair: h.high for pair, h in intervals.items()}, method)
    bars = tuple(
        CertifiedBar(bar, low.death, high.death)
        for bar, low, high in zip(found.bars, lowest.bars, highest.bars, strict=True)
    )
    deaths = max(
        (
            max(known.bar.death - known.death_low, known.death_high - known.bar.death)
            for known in bars
            if math.isfinite(known.bar.death)
        ),
        default=0.0,
    )
    return Certificate(
        found,
        bars,
        deaths + loss_error,
        to_score(found),
        max(0.0, to_score(lowest) - loss_error),
        to_score(highest) + loss_error,
    )


@dataclass(frozen=True)
class Jackknife:
    """How much the TO-score depends on which minima were drawn.

    Attributes:
        scores: for each minimum, the score without it.
        standard_error: sqrt((n - 1) / n Σ (score - mean)²) (Tukey 1958). The score is a maximum
            over bars and no smooth statistic, so read it as a scale and not as a confidence.
        most_influential: the minimum whose absence changes the score most.
    """

    scores: Mapping[Minimum, float]
    standard_error: float
    most_influential: Minimum


def jackknife(
    losses: Sequence[float] | Mapping[Minimum, float], heights: Heights, method: Method = "elder"
) -> Jackknife:
    """The TO-score without each of the minima in turn, and without the passes from it.

    Raises:
        ValueError: as for ``barcode``; fewer than two minima.
    """
    passes = check_passes(losses, heights)
    count = len(passes.ids)
    if count < 2:
        raise ValueError(f"a jackknife needs two minima or more, and there are {count}.")
    whole = to_score(barcode_of(passes, method))
    scores = {
        minimum: to_score(barcode_of(passes, method, without=rank))
        for rank, minimum in enumerate(passes.ids)
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
