"""`report.html`: what a build found, as one self-contained page."""

from __future__ import annotations

import base64
import dataclasses
import html
import io
from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from paraexport.bundle.records import Manifest, Report
from paraexport.findings.checks import Accuracy, Check
from paraexport.findings.graphs import CandidateTimes, Lowering, PartError
from paraexport.model.scores import describe, ranked, text_of
from paraexport.model.spec import Preprocessing
from paraexport.targets.compilation import EngineInfo, EngineLayer, EngineOptions

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin-top: 2rem; border-bottom: 1px solid #ddd }
table { border-collapse: collapse } th, td { text-align: left; padding: .2rem 1rem .2rem 0; vertical-align: top }
th { font-weight: 600 } td.number { text-align: right; font-variant-numeric: tabular-nums }
.passed { color: #17663a } .failed { color: #a11 } .open, .note { color: #8a5a00 }
figure { display: inline-block; margin: 0 1rem 1rem 0; text-align: center; font-size: .85rem }
.bar { background: #4a7ab5; height: .8rem }
img { width: 96px; image-rendering: pixelated; border: 1px solid #ccc }
"""


def render(manifest: Manifest, report: Report, images: NDArray[np.float32], logits: NDArray[np.float32]) -> str:
    """The page; `images` [n, C, H, W] are shown with the answers of `logits` [n, classes]."""
    title = f"paraexport: {manifest.source.name}"
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title><style>{STYLE}</style>",
        f"<h1>{html.escape(title)}</h1>",
        paragraph(f"{manifest.target}, {manifest.precision}, layout {manifest.layout}; built {report.created}"),
        "<h2>Checks against PyTorch</h2>",
        paragraph(f"On {report.evidence}.", "note" if report.made_up else ""),
        paragraph("These images were made up: give --data or --calib to check on real ones.", "note")
        if report.made_up
        else "",
        table(["check", "value", "limit", "unit", "images", "", "reason"], map(check_row, manifest.checks)),
        *accuracies(report.accuracy),
        *lowered(manifest.lowering),
        *candidates(manifest.candidates),
        *compiled(report.engine),
        listing("Warnings", report.warnings),
        listing("Files that could not be read", report.unreadable),
        listing("Assumed", (f"{one.field} = {one.value}: {one.reason}" for one in manifest.assumptions)),
        "<h2>Model</h2>",
        fields(dataclasses.asdict(manifest.spec)) if manifest.spec else paragraph("Traced as it is."),
        "<h2>Scores</h2>",
        paragraph(f"{describe(manifest.scores)}. {manifest.scores.reason}"),
        "<h2>Preprocessing</h2>",
        fields(dataclasses.asdict(manifest.preprocessing)),
        "<h2>Golden images, with PyTorch's answers</h2>",
        *pictures(images, logits, manifest),
        "<h2>Seconds</h2>",
        table(["stage", "s"], ([cell(name), number(seconds)] for name, seconds in report.stages_s.items())),
        paragraph(
            f"{report.total_s:.2f} s in all, of which torch's own export {report.export_s:.2f} s, on {report.machine}"
        ),
        "<h2>Versions</h2>",
        fields(manifest.versions),
        "</html>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def candidates(timed: Iterable[CandidateTimes]) -> Iterator[str]:
    if not (timed := tuple(timed)):
        return
    batches = list(dict.fromkeys(batch for one in timed for batch in one.latency_ms))
    yield "<h2>Candidates</h2>"
    yield paragraph("Timed in turns on the machine of the build; ms of one call, the median over bursts.")
    yield table(
        ["target", "layout", *(f"batch {batch}" for batch in batches), ""],
        (
            [
                *(cell(one.target), cell(one.layout)),
                *(number(one.latency_ms.get(batch)) for batch in batches),
                cell("chosen" if one.chosen else one.failure, "passed" if one.chosen else "note"),
            ]
            for one in timed
        ),
    )


def compiled(engine: EngineInfo | None) -> Iterator[str]:
    """What was compiled, and what it became."""
    if engine is None:
        return
    yield "<h2>Engine</h2>"
    yield paragraph(
        f"Compiled by {engine.runtime} {engine.version} for "
        f"{', '.join(engine.built_for) or 'every compute capability that it knows'}; "
        f"profiles (batches min:opt:max) {', '.join(map(str, engine.profiles))}; {engine.size_bytes:,} bytes from "
        f"{engine.network_layers} layers of the network."
    )
    if engine.products:
        counts = Counter(" · ".join(types) for types in engine.products.values())
        told = ", ".join(f"{count} read {types}" for types, count in counts.most_common())
        fused = "with" if engine.fused_attention else "without"
        yield paragraph(f"As the plan lists it: of {len(engine.products)} products {told}; {fused} fused attention.")
    usual = EngineOptions()
    asked = {name: value for name, value in vars(engine.options).items() if value != getattr(usual, name)}
    if asked:
        yield fields({name: str(value) for name, value in asked.items()})
    if engine.inspection is None:
        yield paragraph(f"What it became was not read back: {engine.not_inspected}.", "note")
    else:
        found = engine.inspection
        yield paragraph(
            f"{len(found.layers)} layers, {found.aux_streams} auxiliary streams, {found.memory_bytes:,} bytes of GPU "
            "memory a context."
        )
        yield table(["layer", "kind", "reads", "writes", "nodes"], map(layer_row, found.layers))
    yield listing("The compiler warned", engine.warnings)


def layer_row(layer: EngineLayer) -> list[str]:
    columns = (layer.inputs, layer.outputs, layer.nodes)
    return [cell(layer.name), cell(layer.kind), *(cell(", ".join(dict.fromkeys(one))) for one in columns)]


def lowered(lowering: Lowering | None) -> Iterator[str]:
    if lowering is None:
        return
    share = sum(lowering.products.values()) / lowering.linear_multiply_adds
    yield "<h2>Precision</h2>"
    yield paragraph(f"{100 * share:.2f} % of the multiply-adds of products by constants are lowered.")
    if lowering.calibrator:
        yield paragraph(f"Scales by {lowering.calibrator} on {lowering.calibration}.")
    if lowering.kept or lowering.reason:
        yield paragraph(f"Kept in float32: {', '.join(lowering.kept) or 'nothing'}; {lowering.reason}.")
    yield listing("Stays in float32", lowering.float32)
    if lowering.effects:
        yield paragraph(
            "Remedies against outliers, each with all before it: ‖Δ logits‖ / ‖logits‖, calibration images."
        )
        yield table(["remedy", "error"], ([cell(one.remedy), number(one.error)] for one in lowering.effects))
    if lowering.errors:
        largest = max(one.error for one in lowering.errors) or 1.0
        yield paragraph("What lowering one part alone does to the sum z over branches, ‖Δz‖ / ‖z‖.")
        yield table(["part", "error", "", ""], (error_row(one, largest) for one in lowering.errors))
    if lowering.additivity is not None:
        yield paragraph(
            f"The errors of the branches add up to that of the sum, but for {lowering.additivity:.1g} of it."
        )


def error_row(one: PartError, largest: float) -> list[str]:
    bar = f'<td><div class="bar" style="width:{160 * one.error / largest:.0f}px"></div></td>'
    return [cell(one.part), number(one.error), bar, cell("kept in float32" if one.kept else "", "note")]


def accuracies(accuracy: Accuracy | None) -> Iterator[str]:
    if accuracy is not None:
        for name, correct in (("PyTorch", accuracy.pytorch_correct), ("This bundle", accuracy.engine_correct)):
            percent = 100 * correct / accuracy.images
            yield paragraph(f"{name}: {correct} of {accuracy.images} images right, {percent:.2f} %.")


def paragraph(text: str, kind: str = "") -> str:
    return f'<p class="{kind}">{html.escape(text)}</p>' if kind else f"<p>{html.escape(text)}</p>"


def cell(value: object, kind: str = "") -> str:
    return f'<td class="{kind}">{html.escape(str(value))}</td>' if kind else f"<td>{html.escape(str(value))}</td>"


def number(value: float | None) -> str:
    return cell("" if value is None else f"{value:.3g}", "number")


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    titles = "".join(f"<th>{html.escape(title)}</th>" for title in head)
    return f"<table><tr>{titles}</tr>" + "".join(f"<tr>{''.join(row)}</tr>" for row in rows) + "</table>"


def check_row(check: Check) -> list[str]:
    kind = "open" if check.passed is None else check.verdict
    values = [number(check.value), number(check.limit), cell(check.unit), cell(check.samples, "number")]
    return [cell(check.name), *values, cell(check.verdict, kind), cell(check.reason)]


def fields(values: dict[str, object] | dict[str, str]) -> str:
    return table([], ([cell(name), cell(value)] for name, value in values.items()))


def listing(title: str, lines: Iterable[str]) -> str:
    items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    return f"<h2>{html.escape(title)}</h2><ul>{items}</ul>" if items else ""


def pictures(images: NDArray[np.float32], logits: NDArray[np.float32], manifest: Manifest) -> Iterator[str]:
    for image, outputs in zip(images, logits, strict=True):
        data = base64.b64encode(png(image, manifest.preprocessing)).decode()
        first = ranked(outputs, manifest.labels, manifest.scores)[0]
        caption = html.escape(f"{first.label} {text_of(first.score, manifest.scores)}")
        yield f'<figure><img alt="" src="data:image/png;base64,{data}"><figcaption>{caption}</figcaption></figure>'


def png(image: NDArray[np.float32], preprocessing: Preprocessing) -> bytes:
    """float32 [C, H, W] as it goes into the model -> the PNG of what it shows."""
    from PIL import Image

    mean, std = (np.array(values, np.float32)[:, None, None] for values in (preprocessing.mean, preprocessing.std))
    pixels = np.clip(np.rint((image * std + mean) * 255), 0, 255).astype(np.uint8).transpose(1, 2, 0)
    shown = pixels if pixels.shape[2] in (1, 3) else pixels[:, :, :1]
    stream = io.BytesIO()
    Image.fromarray(shown.squeeze(2) if shown.shape[2] == 1 else shown).save(stream, "png")
    return stream.getvalue()
