"""The results of a run as text for a terminal, with the barcode drawn in characters."""

import math
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.analysis.assessment import Assessment
from orchestrator.analysis.higher_index import SimplexHomology
from orchestrator.analysis.landscape import Landscape
from orchestrator.planning.saddle_refinement import UnlistedEnd
from orchestrator.report.verified import copies_line, verified_lines
from topo_core.homology.barcodes import Interval
from topo_core.homology.persistent_homology import HomologyBarcode
from topo_core.homology.to_scores import to_score

LOG_SCALE_FROM = 30.0
"""Ratio of the largest to the smallest value from which an axis of losses is logarithmic."""

SHOWN_BARS = 12
"""Largest number of bars of index 1 or higher that are shown, the longest first: there may be thousands."""

JACKKNIFE_FROM = 0.05
"""Share of the TO-score above which its jackknife standard error is printed: a smaller error does not change
how the score is read."""

_CLASSES = {1: "loops", 2: "cavities"}


def barcode_view(landscape: Landscape, width: int = 80) -> RenderableType:
    """Minima, passes, elder barcode, TO-scores and their errors, for a terminal of `width` columns."""
    parts: list[RenderableType] = [Text(f"{landscape.run}", style="bold")]
    if not landscape.complete:
        parts.append(Text(what_is_missing(landscape), style="yellow"))
    if landscape.minima:
        if landscape.verdicts:
            parts.append(Text(landscape.verdicts.sentence()))
        parts.append(
            Text(
                "A bar runs from the loss of a minimum up to the lowest pass to a lower minimum: its "
                "length is the barrier between them. The bar of the lowest minimum never ends."
            )
        )
        parts.append(_bars(landscape, max(20, width - 46)))
        parts.append(_scores(landscape))
        if landscape.verified:
            parts += verified_lines(landscape.verified)
        if landscape.copies and len(landscape.copies.classes) < len(landscape.minima):
            parts.append(copies_line(landscape.copies))
        if landscape.assessment and landscape.counts.done:
            parts += evidence(landscape.assessment, dips=not landscape.saddles)
        if landscape.unlisted_ends:
            parts.append(_unlisted(landscape.unlisted_ends))
        if something_left_out(landscape):
            parts.append(left_out(landscape))
        if landscape.homology:
            parts += [
                higher_bars(bars, landscape.homology, max(20, width - 46))
                for bars in landscape.homology.barcodes.values()
            ]
            parts.append(same_complex(landscape.homology))
    return Group(*parts)


def what_is_missing(landscape: Landscape) -> str:
    """One line that lists the missing results of an incomplete run."""
    counts = landscape.counts
    missing = []
    if lacking := landscape.minima_expected - len(landscape.minima):
        missing.append(f"{lacking} of {landscape.minima_expected} minima")
    if counts.open:
        missing.append(f"{counts.open} of {counts.total} paths")
    if counts.failed:
        missing.append(f"{counts.failed} failed paths")
    if lacking := landscape.simplices_expected - len(landscape.simplices):
        missing.append(f"{lacking} of {landscape.simplices_expected} simplices")
    if lacking := landscape.saddles_expected - landscape.saddles_done:
        bound = "at most " if counts.open else ""
        missing.append(f"{bound}{lacking} of {landscape.saddles_expected} saddles")
    change = (
        "A missing minimum adds a bar and may change others."
        if len(landscape.minima) < landscape.minima_expected
        else "Bars can only get shorter."
    )
    return f"Incomplete: without {', '.join(missing) or 'failed tasks'}. {change}"


def _bars(landscape: Landscape, width: int) -> Table:
    bars, verified = landscape.barcodes["elder"], landscape.verified
    kinds = {end.minimum: end.kind.value for end in verified.ends} if verified else {}
    axis = _Axis(bars.bars, width - 10 if kinds else width)
    table = Table(box=None, pad_edge=False, padding=(0, 1))
    table.add_column("minimum", justify="right")
    table.add_column(axis.label, no_wrap=True)
    table.add_column("loss", justify="right")
    table.add_column("pass", justify="right")
    table.add_column("over", justify="left")
    if kinds:
        table.add_column("ends at", justify="left")
    for bar in bars.bars:
        over = f"{bar.saddle[0]}–{bar.saddle[1]}" if bar.saddle else ""
        death = f"{bar.death:.4g}" if math.isfinite(bar.death) else "∞"
        end = [kinds.get(bar.minimum, "")] if kinds else []
        table.add_row(str(bar.minimum), axis.draw(bar), f"{bar.birth:.4g}", death, over, *end)
    return table


def higher_bars(bars: HomologyBarcode, homology: SimplexHomology, width: int) -> RenderableType:
    """The longest bars of index 1 or higher, and the TO-score of this index."""
    what = f"Index {bars.index} ({_CLASSES.get(bars.index, 'cycles')} of optimised simplices)"
    if not bars.bars:
        return Text(f"\n{what}: none of the {bars.zero_length} bars has a length; TO-score 0.")
    shown = sorted(bars.bars, key=lambda bar: -bar.length)[:SHOWN_BARS]
    axis = _Axis(shown, width)
    table = Table(box=None, pad_edge=False, padding=(0, 1))
    table.add_column("born on", justify="right")
    table.add_column(axis.label, no_wrap=True)
    table.add_column("birth", justify="right")
    table.add_column("death", justify="right")
    table.add_column("filled by", justify="left")
    for bar in shown:
        death = f"{bar.death:.4g}" if math.isfinite(bar.death) else "∞"
        killed = "–".join(map(str, bar.killed)) if bar.killed else ""
        born = "–".join(map(str, bar.born))
        table.add_row(born, axis.draw(bar), f"{bar.birth:.4g}", death, killed)
    score = to_score(bars)
    if math.isfinite(score):
        text = Text(f"TO-score of index {bars.index} ")
        text.append(f"{score:.4g}{plus_minus(homology.epsilon)}", style="bold")
    else:
        text = Text(f"{len(bars.infinite)} of them not filled yet: the TO-score is infinite")
    rest = len(bars.bars) - len(shown)
    more = f"; {rest} shorter bars not shown" if rest else ""
    more += f"; {bars.zero_length} bars of no length not listed" if bars.zero_length else ""
    return Group(Text(f"\n{what}"), table, text.append(f"{more}."))


def same_complex(homology: SimplexHomology) -> Text:
    """Says which edges the complex of optimised simplices has, and its TO-score of index 0."""
    return Text(
        "The edges of this complex are the polygons on the lattice of its triangles, which are higher "
        f"than the paths: its TO-score of index 0 is {_score(to_score(homology.index_0))}."
    )


def plus_minus(epsilon: float) -> str:
    """The suffix ` ± epsilon` for a number; empty if its sampling error is not estimated."""
    return f" ± {epsilon:.2g}" if math.isfinite(epsilon) else ""


class _Axis:
    """Maps losses to columns of characters; linear or logarithmic, depending on the range of the bars."""

    def __init__(self, bars: Sequence[Interval], width: int) -> None:
        values = [b.birth for b in bars] + [b.death for b in bars if math.isfinite(b.death)]
        self._low, self._high, self._width = min(values), max(values), width
        self._log = self._low > 0 and self._high / self._low >= LOG_SCALE_FROM
        scale = "log scale" if self._log else "linear scale"
        self.label = f"loss {self._low:.3g} … {self._high:.3g} ({scale})"

    def column(self, value: float) -> int:
        low, high = self._low, self._high
        if high <= low:
            return 0
        if self._log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return round((self._width - 2) * (value - low) / (high - low))

    def draw(self, bar: Interval) -> Text:
        start = self.column(bar.birth)
        if not math.isfinite(bar.death):
            return Text(" " * start + "━" * (self._width - 1 - start) + "▶", style="cyan")
        length = self.column(bar.death) - start
        return Text(
            " " * start + ("┣" + "━" * (length - 1) + "┫" if length else "┃"), style="green"
        )


def _scores(landscape: Landscape) -> Text:
    scores = landscape.to_scores
    text = Text("TO-score ")
    text.append(_score(scores["elder"]), style="bold")
    known = landscape.assessment
    if known and math.isfinite(scores["elder"]):
        text.append(plus_minus(known.sampling.epsilon), style="bold")
    half = ", half the longest finite bar" if math.isfinite(scores["elder"]) else ""
    text.append(
        f"{half} (elder rule), {_score(scores['direct'])} (direct paths only, Algorithm 1); "
        f"{len(landscape.minima)} minima, {landscape.counts.done} passes, each the highest loss on "
        "the best path of a pair"
    )
    flat = landscape.barcodes["elder"].zero_length
    text.append(f"; {flat} of the {len(landscape.minima)} bars have no length." if flat else ".")
    return text


def evidence(known: Assessment, *, dips: bool = True) -> list[Text]:
    """Lines on the estimated errors, on dips, and on how the score depends on the sample of minima.

    Args:
        known: the assessment of the run.
        dips: whether to mention dips inside paths.
    """
    lines = [*_no_obstacle(known), Text(f"{_sampling(known)} {_convergence(known)}")]
    jack, score = known.jackknife, known.sampling.to_score
    if jack and JACKKNIFE_FROM * score < jack.standard_error < math.inf and score > 0:
        lines.append(
            Text(
                f"The score depends on which minima were drawn: standard error {jack.standard_error:.2g} "
                f"(jackknife), most on minimum {jack.most_influential}."
            )
        )
    if dips and known.dense and known.dense.dips:
        dip, count = known.dense.dips[0], len(known.dense.dips)
        basins = "1 further basin" if count == 1 else f"{count} further basins"
        lines.append(
            Text(
                f"Paths cross {basins} that training has not reached, the deepest on path "
                f"{dip.pair[0]}–{dip.pair[1]} at a loss of {dip.loss:.4g}; minima.discover=true makes "
                "minima of them."
            )
        )
    return lines


def _unlisted(ends: Sequence[UnlistedEnd]) -> Text:
    what = "1 minimum that is" if len(ends) == 1 else f"{len(ends)} minima that are"
    return Text(
        f"Descents from the saddles end at {what} not in this run, the lowest at a loss of "
        f"{ends[0].loss:.4g}; minima.discover=true adds them."
    )


def _sampling(known: Assessment) -> str:
    if known.sampling.estimated:
        return (
            "± estimates what the dense sampling of these paths may have missed between its samples; it "
            "is not a bound, and direct paths have no such estimate."
        )
    return (
        "Without ±: these heights are the highest loss at fixed points of each segment; between those points "
        "the loss was not evaluated."
    )


def _convergence(known: Assessment) -> str:
    convergence = known.convergence
    fall = convergence.largest_fall
    amount = f"up to {fall:.2g}" if math.isfinite(fall) else "an unknown amount"
    return (
        f"With more epochs bars would shorten by {amount} (an estimate, not a bound); "
        f"{len(convergence.unconverged)} of the {len(convergence.decisive)} paths that end bars, now or "
        "then, had not converged."
    )


def _no_obstacle(known: Assessment) -> list[Text]:
    """A line that states that there is no barrier, if no finite bar is longer than the sampling error."""
    sampling = known.sampling
    if (
        not sampling.estimated
        or not sampling.barcode.finite
        or sampling.to_score > sampling.epsilon
    ):
        return []
    return [
        Text(
            "No bar is longer than ±: from each of these minima a path leads to a lower one on which the "
            "loss does not rise."
        )
    ]


def something_left_out(landscape: Landscape) -> bool:
    """Whether to report what paths that were not run could change.

    For an incomplete run this is reported only if the pair rule depends on results and all minima are
    trained.
    """
    counts = landscape.counts
    if landscape.complete:
        return counts.skipped > 0
    whole = len(landscape.minima) == landscape.minima_expected
    return bool(landscape.tolerance) and whole and counts.done > 0


def left_out(landscape: Landscape) -> Text:
    """How far the paths that were not run could still change the bars."""
    open_, counts = landscape.undecided, landscape.counts
    pairs = f"{counts.skipped + counts.open} of {counts.total} pairs were not run"
    if open_.proved:
        return Text(
            f"Proved: {pairs}, and none of them can move a bar by more than {open_.tolerance:g}."
        )
    deaths = {bar.minimum: bar.death for bar in landscape.barcodes["elder"].bars}
    falls = sorted(open_.death_low.items(), key=lambda item: item[1] - deaths[item[0]])
    bars = ", ".join(f"{m} from {deaths[m]:.4g} to {low:.4g}" for m, low in falls[:3])
    more = f" and {len(falls) - 3} more" if len(falls) > 3 else ""
    return Text(
        f"Open: {pairs}; {open_.pairs} of them could still lower bars, at most those of minima "
        f"{bars}{more}.",
        style="yellow",
    )


def _score(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "infinite: some minima are not yet connected"
