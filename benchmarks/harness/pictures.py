"""Draws the rows of a contest as SVG and PNG.

The colours are those of Okabe and Ito, which colour-blind readers can tell apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from benchmarks.harness.contest import Row
from benchmarks.harness.pages import Header

PEER, BEST_PEER = "#b8bcc2", "#6f757d"
BLUE, ORANGE = "#0072B2", "#E69F00"
RUNTIMES = {"onnxruntime": BLUE, "openvino": ORANGE}
LAYOUTS = {"branches": "#56B4E9", "folded": "#009E73", "stacked": "#D55E00"}
DISTURBED_CPUS = 0.2
"""If other processes used more CPUs than this, a point is drawn hollow, because its latency is not reliable."""
INK, FAINT = "#22262b", "#7a8088"
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": "#c9cdd2",
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.titlesize": 10,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": "#e6e8eb",
    "svg.hashsalt": "paraexport",
}


def draw_peers(rows: Sequence[Row], header: Header, folder: Path) -> None:
    """Draw `peers.svg` and `peers.png`: one panel of bars for each depth and batch."""
    shown = [row for row in rows if row.family != "peak"]
    depths, batches = (list(dict.fromkeys(getattr(row, name) for row in shown)) for name in ("depth", "batch"))
    bars = len({row.contestant for row in shown})
    with mpl.rc_context(STYLE):
        height = 1.3 + len(depths) * (0.7 + 0.24 * bars)
        figure = Figure(figsize=(2.2 + 4.3 * len(batches), height), layout="constrained")
        panels = figure.subplots(len(depths), len(batches), squeeze=False)
        for line, depth in enumerate(depths):
            for column, batch in enumerate(batches):
                panel = [row for row in shown if (row.depth, row.batch) == (depth, batch)]
                bar_panel(panels[line, column], panel, names=column == 0)
        for axes in panels[-1]:
            axes.set_xlabel(
                "ms, shorter is better; ×: latency of the best peer divided by this one", fontsize=8, color=FAINT
            )
        save(figure, header, folder / "peers")


def bar_panel(axes: Axes, rows: Sequence[Row], *, names: bool) -> None:
    peers = [row for row in rows if row.family == "peer"]
    places = [index + (0.6 if row.family == "ours" and peers else 0) for index, row in enumerate(rows)]
    fastest = min((row.latency_ms for row in rows if row.family == "ours" and row.latency_ms), default=None)
    widest = max((row.quartile_3_ms or 0 for row in rows), default=1)
    for place, row in zip(places, rows, strict=True):
        if row.latency_ms is None or row.quartile_1_ms is None or row.quartile_3_ms is None:
            axes.text(widest * 0.01, place, row.note[:60], va="center", color=FAINT, style="italic", fontsize=8)
            continue
        best = row.family == "peer" and row.speedup is not None and row.speedup >= 1
        colour = RUNTIMES[row.runner] if row.family == "ours" else BEST_PEER if best else PEER
        spread = [[row.latency_ms - row.quartile_1_ms], [row.quartile_3_ms - row.latency_ms]]
        axes.barh(place, row.latency_ms, 0.78, color=colour)
        axes.errorbar(row.latency_ms, place, xerr=spread, color=INK, elinewidth=0.9, capsize=1.8, capthick=0.9)
        times = "" if row.speedup is None else f"  {row.speedup:.2f}×"
        label = f"{row.latency_ms:#.3g}".rstrip(".") + f" ms{times}"
        weight = "bold" if row.family == "ours" and row.latency_ms == fastest else "normal"
        axes.annotate(
            label,
            (row.quartile_3_ms, place),
            (5, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            weight=weight,
        )
    axes.set_title(f"M = {rows[0].depth}, batch {rows[0].batch}")
    axes.set_xlim(0, widest * 1.32)
    finish_bars(axes, places, [row.contestant if names else "" for row in rows])


def finish_bars(axes: Axes, places: Sequence[float], labels: Sequence[str]) -> None:
    """Label the bars at `places`, the first on top, and leave only the vertical lines of the grid."""
    axes.set_ylim(max(places) + 0.6, -0.6)
    axes.set_yticks(places, labels)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.xaxis.grid(visible=True)
    axes.set_axisbelow(True)


def draw_scaling(rows: Sequence[Row], header: Header, folder: Path, depth: int, parameters: int) -> None:
    """Draw `scaling.svg` and `scaling.png`: latency against L, and against M with L × M fixed."""
    batches = list(dict.fromkeys(row.batch for row in rows))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10.5, 1.4 + 3.9 * len(batches)), layout="constrained")
        panels = figure.subplots(len(batches), 2, squeeze=False)
        for line, batch in enumerate(batches):
            wide, deep = panels[line]
            batch_rows = [row for row in rows if row.batch == batch and row.latency_ms is not None]
            by_branches = [row for row in batch_rows if row.depth == depth]
            by_shape = [row for row in batch_rows if row.branches * row.depth == parameters]
            lines(wide, by_branches, "branches")
            wide.set_title(f"More branches: M = {depth}, batch {batch}")
            wide.set_xlabel("L, parallel branches")
            wide.set_yscale("log")
            wide.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            wide.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            wide.yaxis.set_minor_locator(NullLocator())
            lines(deep, by_shape, "depth")
            deep.set_title(f"Deeper, fewer: L · M = {parameters}, batch {batch}")
            deep.set_xlabel("L × M, branches × layers in each; equal parameters")
            deep.set_ylim(bottom=0)
            deep.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{parameters / value:.0f} × {value:.0f}"))
        handles, labels = panels[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right center", frameon=False)
        save(figure, header, folder / "scaling")


def lines(axes: Axes, rows: Sequence[Row], along: str) -> None:
    for name in dict.fromkeys(row.contestant for row in rows):
        points = sorted((row for row in rows if row.contestant == name), key=lambda row: getattr(row, along))
        first, dashed = points[0], points[0].runner == "openvino"
        colour = LAYOUTS[first.graph] if first.family == "ours" else FAINT if first.runner == "torch" else INK
        axes.plot(
            [getattr(row, along) for row in points],
            [row.latency_ms or math.nan for row in points],
            label=name, color=colour,
            linestyle="--" if dashed else "-", marker="s" if dashed else "o", markersize=4,
            linewidth=1.6 if first.family == "ours" else 1.2,
        )  # fmt: skip
        disturbed = [row for row in points if (row.other_cpus or 0) > DISTURBED_CPUS]
        axes.plot(
            [getattr(row, along) for row in disturbed],
            [row.latency_ms or math.nan for row in disturbed],
            color=colour, markerfacecolor="white", marker="s" if dashed else "o", markersize=6, linestyle="",
        )  # fmt: skip
    if any((row.other_cpus or 0) > DISTURBED_CPUS for row in rows):
        axes.text(0.02, 0.97, "hollow: other processes were busy", transform=axes.transAxes, va="top", color=FAINT)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(sorted({getattr(row, along) for row in rows})))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_ylabel("ms")
    axes.grid(visible=True)
    axes.set_axisbelow(True)


def save(figure: Figure, header: Header, path: Path, title: str = "Latency of one call") -> None:
    figure.suptitle(f"{title}\n{header.model}", x=0.01, ha="left", fontsize=11, linespacing=1.3)
    here = header.machine
    names = ("torch", "onnxruntime", "openvino")
    versions = ", ".join(f"{name} {here.libraries[name]}" for name in names if name in here.libraries)
    figure.supxlabel(
        f"{here.cpu}, {here.cpus} CPUs, {versions}, {here.date[:10]}", x=0.01, ha="left", fontsize=8, color=FAINT
    )
    figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
    figure.savefig(path.with_suffix(".png"), dpi=160)
