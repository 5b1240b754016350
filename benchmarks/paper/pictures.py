"""Draws curves with the range of their points, as SVG, in the style of the other pictures."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from benchmarks.harness.pictures import BLUE, FAINT, INK, ORANGE, STYLE

COLOURS = (BLUE, ORANGE, "#009E73", "#D55E00", "#CC79A7", INK)
MARKERS = "os^Dv*"
Curve = Mapping[int, Sequence[float]]
"""By x, the values at this point: their middle is drawn, with a line from the smallest to the largest."""


@dataclass(frozen=True)
class Panel:
    title: str
    x: str
    y: str
    curves: Mapping[str, Curve]
    log_y: bool = False
    middle: Callable[[Sequence[float]], float] = statistics.fmean
    """The mean or the median."""


def draw(panels: Sequence[Panel], path: Path, note: str) -> None:
    """Write `path`, an SVG with the panels side by side. The x axes are logarithmic."""
    with mpl.rc_context({**STYLE, "svg.fonttype": "none"}):
        figure = Figure(figsize=(0.6 + 4.2 * len(panels), 3.6), layout="constrained")
        for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            for (name, curve), colour, marker in zip(panel.curves.items(), COLOURS, MARKERS, strict=False):
                xs = sorted(curve)
                middles = [panel.middle(curve[x]) for x in xs]
                below = [middle - min(curve[x]) for x, middle in zip(xs, middles, strict=True)]
                above = [max(curve[x]) - middle for x, middle in zip(xs, middles, strict=True)]
                axes.errorbar(
                    xs, middles, yerr=[below, above], label=name, color=colour, marker=marker, markersize=4,
                    linewidth=1.5, elinewidth=0.9, capsize=2,
                )  # fmt: skip
            axes.set_title(panel.title)
            axes.set_xlabel(panel.x)
            axes.set_ylabel(panel.y)
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_locator(FixedLocator(sorted({x for curve in panel.curves.values() for x in curve})))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            if panel.log_y:
                axes.set_yscale("log")
                axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.grid(visible=True)
            axes.set_axisbelow(True)
            axes.legend(frameon=False, fontsize=8)
        figure.supxlabel(note, x=0.01, ha="left", fontsize=8, color=FAINT)
        figure.savefig(path, metadata={"Date": None})
