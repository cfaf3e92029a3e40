"""Figure of the test loss along the paths that end a bar, to compare with the training loss along them."""

import math
from collections.abc import Sequence
from functools import partial

from matplotlib.figure import Figure as Drawing

from orchestrator.report.figure import Figure, table_of
from orchestrator.report.paths import PANELS, Pair, Passes, paths_of_bars
from orchestrator.report.style import FIRST, MUTED, NARROW, WIDE, log_axis, number, spans_decades
from topo_core.homology.barcodes import Barcode
from workers.storage.schema import PairRecord


def held_out_figure(bars: Barcode, passes: Passes) -> Figure | None:
    """Test loss along the paths that end a bar; None if it was not measured on any of them."""
    ending = [pair for _, pair in paths_of_bars(bars, passes) if len(passes[pair].test_losses)]
    if not ending:
        return None
    shown = ending[:PANELS]
    rows = [
        (f"{pair[0]}–{pair[1]}", position, loss)
        for pair in ending
        for position, loss in zip(
            passes[pair].test_positions, passes[pair].test_losses, strict=True
        )
    ]
    rising = sum(_rises(passes[pair]) for pair in ending)
    count = f"{rising} of {len(ending)} paths"
    return Figure(
        name="test-loss-along-paths",
        title="Test loss along the same paths",
        caption=(
            "Mean loss on the test set at the points of each path, without a ridge. The paths were optimised "
            "on the training loss alone. The dashed line is at the higher of the two ends. On "
            f"{count} the test loss rises above both ends."
        ),
        alt=(
            f"Test loss along {len(shown)} paths; it rises above both ends on {count}. The "
            f"highest value is {number(max(max(passes[pair].test_losses) for pair in shown))}."
        ),
        table=table_of(("path", "position", "test loss"), rows),
        draw=partial(_draw, shown, passes),
    )


def _rises(record: PairRecord) -> bool:
    """Whether the test loss at some inner point is higher than at both ends."""
    return max(record.test_losses) > max(record.test_losses[0], record.test_losses[-1])


def _draw(shown: Sequence[Pair], passes: Passes, wide: bool) -> Drawing:
    columns = min(4 if wide else 2, len(shown))
    rows = math.ceil(len(shown) / columns)
    figure = Drawing(figsize=(WIDE if wide else NARROW, 0.4 + 1.55 * rows))
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for ax, pair in zip(axes, shown, strict=False):
        record = passes[pair]
        ends = max(record.test_losses[0], record.test_losses[-1])
        ax.axhline(ends, color=MUTED, lw=0.8, ls="--")
        ax.plot(record.test_positions, record.test_losses, "o-", color=FIRST, ms=2.5, lw=1.2)
        ax.set_title(f"path {pair[0]}–{pair[1]}", fontsize=8)
    for ax in axes[len(shown) :]:
        ax.set_visible(False)
    for ax in axes[max(0, len(shown) - columns) : len(shown)]:  # the bottom panel of each column
        ax.tick_params(labelbottom=True)
    values = [value for pair in shown for value in passes[pair].test_losses]
    if min(values) > 0 and spans_decades(values):
        log_axis(axes[0], "y")
    axes[0].set_xlim(-0.03, 1.03)
    axes[0].set_xticks([0, 0.5, 1], ["0", "½", "1"])
    figure.supxlabel("share of the arc length", fontsize=9)
    figure.supylabel("test loss", fontsize=9)
    return figure
