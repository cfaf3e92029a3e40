"""The measures by which the runs of a study are compared. A measure maps the results of a run to a number.

Bars are those of Algorithm 1 (`direct`), which the paper uses, unless the name of the measure ends in
`elder`; `verified_ends` is by the elder rule too. A mean over bars is taken over the finite bars: the bar of
the lowest minimum is infinite.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from statistics import fmean, median

from scipy import stats

from orchestrator.analysis.landscape import Landscape
from orchestrator.runs.gradient_norms import GradientNorms
from orchestrator.runs.published_heights import PublishedHeights
from topo_core.homology.bar_ends import EndKind
from topo_core.homology.barcodes import Bar, BarcodeMethod
from workers.storage.schema import MinimumRecord, PairRecord

Measure = Callable[[Landscape], float | None]
"""Maps the results of a run to a number, or to None if the run does not determine it."""


def _over_minima(value: Callable[[MinimumRecord], float]) -> Measure:
    return lambda run: _mean(value(m) for m in run.minima.values())


def _over_passes(value: Callable[[PairRecord], float]) -> Measure:
    def measure(run: Landscape) -> float | None:
        values = [value(record) for record in run.passes.values()]
        return median(values) if values else None

    return measure


def _bar_length(method: BarcodeMethod) -> Measure:
    return lambda run: _mean(bar.length for bar in run.barcodes[method].finite)


def _score(method: BarcodeMethod) -> Measure:
    def measure(run: Landscape) -> float | None:
        score = run.to_scores[method]
        return score if math.isfinite(score) else None

    return measure


def bars_and_errors(run: Landscape, method: BarcodeMethod = "direct") -> list[tuple[Bar, float]]:
    """The finite bars, each with the test error of its minimum."""
    return [
        (bar, 1 - run.minima[int(bar.minimum)].test_accuracy) for bar in run.barcodes[method].finite
    ]


def _with_error(value: Callable[[Bar], float], method: BarcodeMethod = "direct") -> Measure:
    """Spearman's rank correlation of a value of a bar and the test error of its minimum, over finite bars.

    None for fewer than three bars, or if one side is constant.
    """

    def measure(run: Landscape) -> float | None:
        pairs = [(value(bar), error) for bar, error in bars_and_errors(run, method)]
        varied = all(len(set(side)) > 1 for side in zip(*pairs, strict=True))
        if len(pairs) < 3 or not varied:  # bars of zero length are constant
            return None
        rho = float(stats.spearmanr(*zip(*pairs, strict=True)).statistic)
        return None if math.isnan(rho) else rho

    return measure


def _verified_minima(run: Landscape) -> float | None:
    """Share of the minima that are proved to be minima; None if no minimum was judged."""
    verdicts = [record.verdict for record in run.minima.values()]
    return _mean(float(verdict == "minimum") for verdict in verdicts) if any(verdicts) else None


def _barriers(run: Landscape) -> float | None:
    """Number of the finite bars (elder rule) with a barrier; None if no path was refined."""
    if run.verified is None:
        return None
    return float(len(run.verified.ends) - run.verified.count(EndKind.NO_BARRIER))


def _verified_ends(run: Landscape) -> float | None:
    """Share of the finite bars (elder rule) with a barrier that end at a verified saddle.

    None if no path was refined, or if no bar has a barrier.
    """
    barriers = _barriers(run)
    if run.verified is None or not barriers:
        return None
    return run.verified.count(EndKind.SADDLE) / barriers


def _overshoot(record: PairRecord) -> float:
    """Highest loss on the polygon divided by the highest loss at its points, at the last measurement.

    The loss at a point is that on the last minibatch it was optimised on.
    """
    return float(record.history[-1]["dense_maximum"]) / float(record.history[-1]["max_loss"])


MEASURES: Mapping[str, tuple[str, Measure]] = {
    "to_score": ("TO-score by direct paths (Algorithm 1)", _score("direct")),
    "to_score_elder": ("TO-score by the elder rule", _score("elder")),
    "bar": ("mean length of the finite bars", _bar_length("direct")),
    "bar_elder": ("mean length of the finite bars, elder rule", _bar_length("elder")),
    "saddle": (
        "mean upper end of the finite bars",
        lambda run: _mean(bar.death for bar in run.barcodes["direct"].finite),
    ),
    "height": ("median height of the passes", _over_passes(lambda r: r.height)),
    "train_loss": ("mean training loss of the minima", _over_minima(lambda m: m.loss)),
    "test_loss": ("mean test loss of the minima", _over_minima(lambda m: m.test_loss)),
    "train_accuracy": ("mean training accuracy", _over_minima(lambda m: m.accuracy)),
    "test_accuracy": ("mean test accuracy", _over_minima(lambda m: m.test_accuracy)),
    "bar_with_error": (
        "Spearman's ρ of bar length and test error over minima",
        _with_error(lambda bar: bar.length),
    ),
    "bar_with_error_elder": (
        "the same by the elder rule",
        _with_error(lambda bar: bar.length, "elder"),
    ),
    "saddle_with_error": (
        "Spearman's ρ of a bar's upper end and test error over minima",
        _with_error(lambda bar: bar.death),
    ),
    "verified_minima": ("share of the minima that are proved to be minima", _verified_minima),
    "barriers": (
        "number of the finite bars whose path rises above its higher end, elder rule",
        _barriers,
    ),
    "verified_ends": (
        "share of the finite bars with a barrier that end at a verified saddle, elder rule",
        _verified_ends,
    ),
    "overshoot": (
        "height of the polygon over its highest optimised point",
        _over_passes(_overshoot),
    ),
}
"""Name in a study file → description, and function of the results of a run."""


FROM_POINTS: Mapping[str, tuple[str, Callable[[GradientNorms], float]]] = {
    "normal_norm": (
        "normal component of the gradient on paths",
        lambda n: n.root_mean_square(n.normal),
    ),
    "tangent_norm": (
        "tangential component of the gradient on paths",
        lambda n: n.root_mean_square(n.tangent),
    ),
    "tangent_norm_middle": (
        "tangential component of the gradient in the middle third of paths",
        lambda n: n.root_mean_square(n.tangent, middle=True),
    ),
}
"""Measures for which the gradient is evaluated at the stored points, so computed only if a claim uses
them."""


FROM_PUBLISHED: Mapping[str, tuple[str, Callable[[PublishedHeights], float | None]]] = {
    "height_published": (
        "median height of the passes as the authors' repository measures it",
        lambda run: median(run.heights.values()) if run.heights else None,
    ),
    "saddle_published": (
        "mean upper end of the finite bars, measured so",
        lambda run: _mean(bar.death for bar in run.barcode.finite),
    ),
    "bar_published": (
        "mean length of the finite bars, measured so",
        lambda run: _mean(bar.length for bar in run.barcode.finite),
    ),
    "to_score_published": (
        "half the longest finite bar, measured so",
        lambda run: max((bar.length for bar in run.barcode.finite), default=0.0) / 2,
    ),
}
"""Measures of the loss at α = ¼, ½, ¾ of each segment, on an eighth of the minibatches, with the weight
penalty of the authors' repository (`orchestrator.runs.published_heights`). The loss is evaluated again, so
they are computed only if a claim uses them."""


def row_of(run: Landscape) -> dict[str, float | None]:
    """All measures in `MEASURES` of a run, by name; None if the run does not determine a measure."""
    return {name: measure(run) for name, (_, measure) in MEASURES.items()}


def _mean(values: Iterable[float]) -> float | None:
    known = list(values)
    return fmean(known) if known else None
