"""Draws int8 and its peers: errors on the trained examples at the top, latencies below."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.harness.contest import Row
from benchmarks.harness.pages import Header
from benchmarks.harness.pictures import FAINT, INK, PEER, RUNTIMES, STYLE, bar_panel, finish_bars, save
from benchmarks.int8.accuracy import Accuracy


def draw_int8(rows: Sequence[Row], accuracies: Sequence[Accuracy], header: Header, path: Path) -> None:
    """Draw `path` as SVG and PNG: a panel for each test set, then one for each depth and batch."""
    tests = list(dict.fromkeys((row.model, row.test) for row in accuracies))
    contests = list(dict.fromkeys((row.depth, row.batch) for row in rows))
    panels = [*tests, *contests]
    bars = len({row.contestant for row in rows} | {row.contestant for row in accuracies})
    columns = 2
    lines = -(-len(tests) // columns) + -(-len(contests) // columns)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.2 + 4.6 * columns, 1.3 + lines * (0.7 + 0.24 * bars)), layout="constrained")
        axes = list(figure.subplots(lines, columns, squeeze=False).flat)
        first_contest = columns * -(-len(tests) // columns)
        for place, key in [*enumerate(tests), *enumerate(contests, first_contest)]:
            names = place % columns == 0
            if place < first_contest:
                error_panel(axes[place], [row for row in accuracies if (row.model, row.test) == key], names=names)
            else:
                bar_panel(axes[place], [row for row in rows if (row.depth, row.batch) == key], names=names)
                axes[place].set_xlabel(
                    "ms; ×: latency of the best int8 peer divided by this one", fontsize=8, color=FAINT
                )
        used = {*range(len(tests)), *range(first_contest, first_contest + len(contests))}
        for place in range(len(axes)):
            if place not in used:
                axes[place].set_axis_off()
        assert len(used) == len(panels)
        save(figure, header, path, "Accuracy, and latency of one call; shorter is better")


def error_panel(axes: Axes, rows: Sequence[Accuracy], *, names: bool) -> None:
    """Root mean square errors of logits, with the share of images that keep their top-1 class."""
    places = [index + (0.6 if row.family == "ours" else 0) for index, row in enumerate(rows)]
    int8_rows = [row for row in rows if row.family != "scale"]
    widest = max((row.rms_error or 0 for row in int8_rows), default=0) or 1
    for place, row in zip(places, rows, strict=True):
        if row.rms_error is None:
            axes.text(widest * 0.01, place, row.note[:60], va="center", color=FAINT, style="italic", fontsize=8)
            continue
        axes.barh(place, row.rms_error, 0.78, color=RUNTIMES[row.runner] if row.family == "ours" else PEER)
        axes.annotate(
            f"{row.rms_error:.2g}, {row.agreement:.2f} %", (row.rms_error, place), (5, 0),
            textcoords="offset points", va="center", fontsize=8, color=INK,
        )  # fmt: skip
    axes.set_title(f"{rows[0].model}, {rows[0].test}, {rows[0].images} images")
    axes.set_xlabel("rms error of a logit; %: images with PyTorch's top-1", fontsize=8, color=FAINT)
    axes.set_xlim(0, widest * 1.4)
    finish_bars(axes, places, [row.contestant if names else "" for row in rows])
