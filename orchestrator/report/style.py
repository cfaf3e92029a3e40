"""The style of all figures, and a colour-blind-safe palette for light pages, dark pages and print.

The hues are those of Okabe & Ito (2008), darkened or lightened to a contrast of at least 3 : 1 with a white
or a near-black page. Colour is never the only difference: marks of different colours also differ in position,
shape or dash.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from orchestrator.report.terminal import LOG_SCALE_FROM

INK, MUTED, GRID = "#1b1f24", "#5b636e", "#d5d9df"
FIRST, SECOND, THIRD, FOURTH = "#0067a5", "#c44e00", "#007a5a", "#a4397f"
MISSING = "#c9ced6"

DARK: Mapping[str, str] = {
    INK: "#e8eaed",
    MUTED: "#a9b1bb",
    GRID: "#3a414a",
    FIRST: "#5ab4f0",
    SECOND: "#f5913e",
    THIRD: "#3fc79a",
    FOURTH: "#e58fc8",
    MISSING: "#4a525c",
}
"""Colour on a light page → colour on a dark page."""

VARIABLES: Mapping[str, str] = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--grid",
    FIRST: "--first",
    SECOND: "--second",
    THIRD: "--third",
    FOURTH: "--fourth",
    MISSING: "--missing",
}
"""Colour → name of the CSS custom property that replaces it in a page."""

SEQUENTIAL = "cividis"
"""Colour map of heights: perceptually uniform, and safe for colour-blind readers (Nuñez et al. 2018)."""

WIDE, NARROW = 7.2, 3.7
"""Widths of figures in inches: the text width of a paper, and a phone in portrait orientation."""

_RC: dict[str, Any] = {
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.labelsize": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.facecolor": "none",
    "axes.formatter.useoffset": False,
    "axes.formatter.limits": (-4, 6),
    "figure.facecolor": "none",
    "figure.constrained_layout.use": True,
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.4,
    "path.simplify": True,
    "pdf.fonttype": 42,
    "savefig.dpi": 200,
    "svg.fonttype": "none",
    "svg.hashsalt": "toscore",
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
}


@contextmanager
def styled() -> Iterator[None]:
    """Context with the Matplotlib settings of this project; the previous settings are restored on exit."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_RC)
        yield


def spans_decades(values: list[float]) -> bool:
    """Whether to use a logarithmic axis: finite values are positive and span `LOG_SCALE_FROM` or more."""
    finite = [v for v in values if math.isfinite(v)]
    return bool(finite) and min(finite) > 0 and max(finite) / min(finite) >= LOG_SCALE_FROM


def log_axis(axes: Axes, which: str) -> None:
    """Make an axis (`which` is x or y) logarithmic, with plain numbers as labels (no mathtext)."""
    getattr(axes, f"set_{which}scale")("log")
    axis = axes.xaxis if which == "x" else axes.yaxis
    low, high = sorted(axis.get_view_interval())
    subs = (1.0, 2.0, 5.0) if low > 0 and high / low < 1e3 else (1.0,)
    axis.set_major_locator(LogLocator(subs=subs, numticks=8))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def few_ticks(axes: Axes, wide: bool, *, integer: bool = False) -> None:
    """Limit the number of ticks of the horizontal axis so that their labels do not overlap."""
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8 if wide else 4, integer=integer))


def signed(value: float) -> str:
    """A number with two decimals, and a minus sign instead of a hyphen."""
    return f"{value:.2f}".replace("-", "\N{MINUS SIGN}")


def number(value: float) -> str:
    """A number with four significant digits; ∞ for ±infinity and – for NaN."""
    if math.isnan(value):
        return "–"
    return f"{value:.4g}" if math.isfinite(value) else "∞"
