"""What is drawn: positions read back from the drawing are the numbers."""

import math

import numpy as np
import pytest
from matplotlib.collections import LineCollection

from orchestrator.report.barcodes import Panel, barcode_figure, diagram_figure
from orchestrator.report.figure import Table
from orchestrator.report.paths import PathPoints, norms_figure
from orchestrator.report.style import styled
from orchestrator.report.trees import matrix_figure, tree_figure
from tests.helpers.made_run import HEIGHTS, LOSSES
from topo_core.homology.barcodes import barcode
from topo_core.homology.merge_trees import merge_tree
from topo_core.homology.persistent_homology import HomologyBarcode


def drawn(figure, wide=True):
    with styled():
        drawing = figure.draw(wide)
        drawing.canvas.draw()
    return drawing


def segments(ax):
    return [
        segment
        for collection in ax.collections
        if isinstance(collection, LineCollection)
        for segment in collection.get_segments()
    ]


@pytest.mark.parametrize("wide", [True, False])
def test_bars_are_drawn_from_birth_to_death(wide):
    """Each finite bar is a line between its two numbers; the infinite one goes to the edge."""
    bars = barcode(LOSSES, HEIGHTS)
    ax = drawn(barcode_figure([Panel("elder", bars)], index=0), wide).axes[0]
    lines = {(s[0][0], s[1][0]) for s in segments(ax)}
    assert {(bar.birth, bar.death) for bar in bars.finite} <= lines
    assert (bars.infinite[0].birth, ax.get_xlim()[1]) in lines
    assert len(lines) == len(bars.bars)


def test_ends_that_are_verified_are_marked_and_listed():
    """A dot at the death of a bar that ends at a saddle, a cross at a kink, nothing at other heights."""
    bars = barcode(LOSSES, HEIGHTS)
    first, second, *_ = bars.finite
    ends = {first.minimum: "saddle", second.minimum: "kink"}
    figure = barcode_figure([Panel("elder", bars, ends)], index=0)
    marks = {line.get_marker(): line.get_xdata()[0] for line in drawn(figure).axes[0].lines}
    assert marks["o"] == first.death and marks["x"] == second.death
    listed = dict(
        zip(figure.table.columns["born at"], figure.table.columns["ends at"], strict=True)
    )
    assert listed[str(first.minimum)] == "saddle" and "verified saddle" in figure.caption


def test_a_bar_too_short_to_be_seen_has_a_mark():
    """A length of a millionth of the axis still shows where the bar is; the endless bar needs none."""
    bars = barcode((0.1, 0.2), {(0, 1): 0.2 + 1e-6})
    (marks,) = [
        line
        for line in drawn(barcode_figure([Panel("elder", bars)], index=0)).axes[0].lines
        if line.get_marker() == "|"
    ]
    assert marks.get_xydata().tolist() == [[0.2, 1.0]]


def test_a_bar_that_waits_for_a_path_is_not_drawn_as_endless():
    """With one path missing a second bar has no end: it is dashed and hollow, and the caption says why."""
    bars = barcode((0.1, 0.2, 0.3), {(0, 1): 0.5})
    figure = barcode_figure([Panel("elder", bars)], index=0)
    ax = drawn(figure).axes[0]
    dashed = [
        segment
        for collection in ax.collections
        for segment, (_, dashes) in zip(
            collection.get_segments(), collection.get_linestyle(), strict=False
        )
        if dashes
    ]
    assert [segment[0].tolist() for segment in dashed] == [[0.3, 2.0]]
    ends = {
        line.get_fillstyle(): len(line.get_xdata()) for line in ax.lines if line.get_marker() == ">"
    }
    assert ends == {"full": 1, "none": 1}
    assert "A dashed bar has no end so far" in figure.caption
    whole = barcode_figure([Panel("elder", barcode(LOSSES, HEIGHTS))], index=0)
    assert "dashed" not in whole.caption


def test_an_empty_barcode_says_so_and_has_no_scale():
    """Where no class lives for a while there is nothing to draw; it is said, in both forms."""
    figure = barcode_figure([Panel("simplices", HomologyBarcode((), 1, 2, 0))], index=1)
    ax = drawn(figure).axes[0]
    assert [text.get_text() for text in ax.texts] == ["no bar has a length"]
    assert not len(ax.get_xticks()) and "No bar has a length." in figure.alt


def test_points_of_the_diagram_are_the_bars():
    """Birth across, death up."""
    bars = barcode(LOSSES, HEIGHTS)
    ax = drawn(diagram_figure({"elder": bars})).axes[0]
    line = next(line for line in ax.lines if line.get_label() == "elder")
    assert {tuple(p) for p in line.get_xydata()} == {(b.birth, b.death) for b in bars.finite}


def test_the_tree_joins_at_the_passes():
    """Horizontal lines are at the heights of the joins, lower ends at the losses of the minima."""
    tree = merge_tree(LOSSES, HEIGHTS)
    lines = segments(drawn(tree_figure(tree)).axes[0])
    flat = sorted(s[0][1] for s in lines if s[0][1] == s[1][1])
    assert flat == sorted(join.height for join in tree.joins)
    feet = {min(s[0][1], s[1][1]) for s in lines}
    assert set(LOSSES) <= feet


def test_no_lines_of_the_tree_cross():
    """On random heights, no upright of the drawing passes through a horizontal one."""
    source = np.random.default_rng(0)
    losses = source.uniform(0, 1, 12).tolist()
    heights = {
        (i, j): max(losses[i], losses[j]) + source.exponential()
        for j in range(12)
        for i in range(j)
    }
    lines = segments(drawn(tree_figure(merge_tree(losses, heights))).axes[0])
    upright = [s for s in lines if s[0][0] == s[1][0]]
    flat = [s for s in lines if s[0][1] == s[1][1]]
    for (x, low), (_, high) in upright:
        for (left, y), (right, _) in flat:
            assert not (min(left, right) < x < max(left, right) and low < y < high)


def test_the_matrix_is_symmetric_in_the_order_of_the_tree():
    """Cells hold the heights of their two minima; a missing path is masked, not a number."""
    heights = {pair: h for pair, h in HEIGHTS.items() if pair != (2, 3)}
    tree = merge_tree(LOSSES, heights)
    ax = drawn(matrix_figure(tree, dict(enumerate(LOSSES)), heights)).axes[0]
    order = [int(label.get_text()) for label in ax.get_xticklabels()]
    cells = ax.images[0].get_array()
    assert ax.patch.get_hatch()  # seen through the masked cells: no colour of the map is hatched
    for a, i in enumerate(order):
        for b, j in enumerate(order):
            wanted = LOSSES[i] if i == j else heights.get((min(i, j), max(i, j)))
            assert cells.mask[a, b] if wanted is None else cells[a, b] == wanted


def test_numbers_are_read_back_to_the_same_bits():
    """CSV keeps every digit; JSON has null for what is not finite."""
    table = Table({"a": [0.1 + 0.2, math.inf], "b": ["x", None]})
    assert [float(line.split(",")[0]) for line in table.to_csv().splitlines()[1:]] == [
        0.1 + 0.2,
        math.inf,
    ]
    assert table.to_json() == '[{"a": 0.30000000000000004, "b": "x"}, {"a": null, "b": null}]'


def test_columns_of_different_lengths_are_refused():
    """A table that would lose rows in silence is none."""
    with pytest.raises(ValueError, match="different lengths"):
        Table({"a": [1], "b": []})


def test_norms_of_each_point_are_drawn_where_they_were_kept():
    """Insertion makes rows of different lengths; each is drawn as long as it is."""
    bars = barcode(LOSSES, HEIGHTS)
    points = PathPoints(
        [0, 0.5, 1], [10, 20], [[1.0, 2.0], [0.5, 0.6, 0.7]], [[3.0, 4.0], [1, 2, 3]]
    )
    figure = norms_figure(bars, dict.fromkeys(HEIGHTS), lambda pair: points)
    assert figure is not None and "path 0–3" in figure.title
    assert figure.table.columns["normal norm"] == [1.0, 2.0, 0.5, 0.6, 0.7]
    along, across = drawn(figure).axes
    assert [len(line.get_ydata()) for line in along.lines] == [2, 3]
    assert across.lines[1].get_ydata().tolist() == [0.5, 0.6, 0.7]
    assert norms_figure(bars, dict.fromkeys(HEIGHTS), lambda pair: PathPoints([0, 1])) is None


def test_test_losses_along_paths():
    """The figure counts the paths on which the test loss rises; without measurements there is none."""
    from types import SimpleNamespace

    from orchestrator.report.held_out_losses import held_out_figure
    from topo_core import barcode

    bars = barcode([0.0, 1.0, 2.0], {(0, 1): 3.0, (0, 2): 4.0})
    rising = SimpleNamespace(test_positions=(0, 0.5, 1), test_losses=(1.0, 3.0, 2.0))
    falling = SimpleNamespace(test_positions=(0, 0.5, 1), test_losses=(1.0, 0.5, 2.0))
    none = SimpleNamespace(test_positions=(), test_losses=())
    figure = held_out_figure(bars, {(0, 1): rising, (0, 2): falling})
    assert figure is not None and "1 of 2 paths" in figure.caption
    assert len(figure.table) == 6 and figure.files()["test-loss-along-paths.png"]
    assert "<svg" in figure.svg(wide=False)
    assert held_out_figure(bars, {(0, 1): none, (0, 2): none}) is None
