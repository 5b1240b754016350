"""Writes predictions as a section for the terminal, as Markdown and as CSV."""

from __future__ import annotations

import csv
import io

from paraexport.bench.predict.rows import Prediction, Row
from paraexport.findings.document import Cell, Line, Section, Table, count, number

HEAD = ("device", "batch", "name", "layout", "precision", "ms", "from – to ms", "images/s", "kernels", "mostly", "")


def section(prediction: Prediction) -> Section:
    devices = ", ".join(f"{device.name} is {device.title}" for device in prediction.devices)
    lines = (*prediction.assumptions, f"{devices}. --json lists the numbers of each device with their sources.")
    return Section("Predicted latency of one call", (table(prediction), *(Line(line, "note") for line in lines)))


def table(prediction: Prediction) -> Table:
    return Table(HEAD, tuple(map(cells, prediction.rows)))


def cells(row: Row) -> tuple[Cell, ...]:
    return (
        Cell(row.device),
        count(row.batch),
        Cell(row.name),
        Cell(row.layout),
        Cell(row.precision),
        number(row.latency_ms),
        Cell(f"{row.low_ms:.3g} – {row.high_ms:.3g}", is_number=True),
        Cell(f"{row.images_per_s:,.0f}", is_number=True),
        count(row.kernels),
        Cell(row.mostly),
        Cell("this bundle" if row.this_bundle else "", "note"),
    )


def as_markdown(prediction: Prediction) -> str:
    content = table(prediction)
    lines = [content.head, ("-",) * len(HEAD), *(tuple(cell.text for cell in row) for row in content.rows)]
    notes = "\n".join(f"- {line}" for line in prediction.assumptions)
    return notes + "\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def as_csv(prediction: Prediction) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(vars(prediction.rows[0]))
    writer.writerows(vars(row).values() for row in prediction.rows)
    return stream.getvalue()
