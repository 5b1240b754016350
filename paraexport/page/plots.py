"""Draws charts as SVG, with colours and fonts that follow the page."""

from __future__ import annotations

import io
import math
import re
from typing import TYPE_CHECKING, Any, cast

from paraexport.errors import printable
from paraexport.findings.document import Chart

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH_INCHES, HEIGHT_INCHES, LEGEND_ROW_INCHES = 4.6, 2.9, 0.22
INSIDE = (0.17, 0.17, 0.8, 0.79)
"""Left, bottom, width and height of the axes, as shares of the figure without a legend below. Finding them by layout
takes longer."""
INK, FAINT = "#010101", "#010102"
LINES = ("#010103", "#010104", "#010105", "#010106")
VARIABLES = {
    INK: "--muted", FAINT: "--line",
    **{colour: f"--series-{number}" for number, colour in enumerate(LINES)},
}  # fmt: skip
"""Colours that matplotlib draws with -> the variables of the page's style that replace them."""
MARKERS = ("o", "s", "^", "D")
MOST_TICKS = 12
SETTINGS: dict[str, Any] = {
    "svg.fonttype": "none", "svg.hashsalt": "paraexport", "svg.id": None, "font.size": 11, "axes.edgecolor": FAINT,
    "axes.labelcolor": INK, "text.color": INK, "xtick.color": INK, "ytick.color": INK, "grid.color": FAINT,
    "axes.spines.top": False, "axes.spines.right": False, "xtick.major.size": 0, "ytick.major.size": 0,
    "axes.axisbelow": True, "path.simplify": False, "text.parse_math": False,
}  # fmt: skip
FONT = re.compile(r"font: ([\d.]+px) [^;\"]*")
LOCAL_NAME = re.compile(r'(\bid="|href="#|url\(#)')


def draw(chart: Chart, name: str) -> str:
    """Draw the chart as an SVG element. `name` is unique on the page."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with mpl.rc_context():
        mpl.rcdefaults()
        cast("dict[str, Any]", mpl.rcParams).update(SETTINGS)
        left, bottom, width, height = INSIDE
        legend = LEGEND_ROW_INCHES * len(chart.names)
        figure = Figure(figsize=(WIDTH_INCHES, HEIGHT_INCHES + legend))
        FigureCanvasSVG(figure)
        scale = HEIGHT_INCHES / (HEIGHT_INCHES + legend)
        axes = figure.add_axes((left, 1 - scale * (1 - bottom), width, scale * height))
        axes.set_xlabel(plain(chart.x_title))
        axes.set_ylabel(plain(chart.y_title))
        axes.grid(visible=True, axis="both" if chart.names else "y", linewidth=0.8)
        (draw_points if chart.names else draw_lines)(axes, chart)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return for_page(stream.getvalue(), chart, name)


def draw_lines(axes: Axes, chart: Chart) -> None:
    for series, colour, marker in zip(chart.series, LINES, MARKERS, strict=False):
        values = [float("nan") if value is None else value for value in series.values]
        axes.plot(chart.x, values, color=colour, marker=marker, markersize=4.5, linewidth=1.8, label=plain(series.name))
    if len(chart.x) <= MOST_TICKS:
        axes.set_xticks(chart.x)
    if len(chart.series) > 1:
        axes.legend(frameon=False, fontsize=10, loc="best", labelcolor=INK)
    axes.margins(y=0.12)
    if chart.from_zero:
        axes.set_ylim(bottom=0)


def draw_points(axes: Axes, chart: Chart) -> None:
    values = [float("nan") if value is None else value for value in chart.series[0].values]
    for number, (name, x, y) in enumerate(zip(chart.names, chart.x, values, strict=True)):
        colour, marker = LINES[number % 4], MARKERS[(number + number // 4) % 4]
        axes.plot([x], [y], color=colour, marker=marker, markersize=8, linestyle="none", label=plain(name), alpha=0.85)
    known = [value for value in values if math.isfinite(value)] or [0.0]
    space = max(0.25 * (max(known) - min(known)), 0.5)
    axes.set_ylim(min(known) - space, max(known) + space)
    axes.set_xlim(0, 1.1 * max(chart.x) or 1)
    axes.legend(frameon=False, fontsize=10, loc="upper left", bbox_to_anchor=(-0.12, -0.24), labelcolor=INK)


def plain(text: str) -> str:
    """`text` without control characters, and cut if it is long."""
    text = printable(text)
    return text if len(text) <= 40 else f"{text[:39]}…"


def for_page(svg: str, chart: Chart, name: str) -> str:
    """Make names unique, and replace colours and fonts by those of the page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = LOCAL_NAME.sub(rf"\g<1>{name}-", svg)
    svg = FONT.sub(r"font: \1 var(--font)", svg)
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    size = re.search(r'viewBox="[^"]*"', svg)
    assert size is not None
    head = f'<svg class="chart" role="img" aria-labelledby="{name}-title" {size[0]} xmlns="http://www.w3.org/2000/svg">'
    return head + f'<title id="{name}-title">{description(chart)}</title>' + svg[svg.index(">") + 1 :]


def description(chart: Chart) -> str:
    """A text alternative: the table beside the chart has the numbers."""
    from markupsafe import escape

    names = ", ".join(chart.names or [series.name for series in chart.series])
    text = f"{chart.title}: {names}; {chart.y_title} over {chart.x_title}. The table below has the numbers."
    return str(escape(printable(text)))
