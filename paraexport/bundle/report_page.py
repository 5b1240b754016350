"""Writes `report.html`: the sections of a bundle and its golden images on one self-contained page."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from paraexport.bundle import summary
from paraexport.bundle.records import Manifest, Report
from paraexport.findings.document import Block, Cell, Line, Section, Table
from paraexport.model.scores import ranked, text_of
from paraexport.model.spec import Preprocessing

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin-top: 2rem; border-bottom: 1px solid #ddd }
table { border-collapse: collapse } th, td { text-align: left; padding: .2rem 1rem .2rem 0; vertical-align: top }
th { font-weight: 600 } td.number { text-align: right; font-variant-numeric: tabular-nums }
.good { color: #17663a } .bad { color: #a11 } .note { color: #8a5a00 }
figure { display: inline-block; margin: 0 1rem 1rem 0; text-align: center; font-size: .85rem }
.bar { background: #4a7ab5; height: .8rem }
img { width: 96px; image-rendering: pixelated; border: 1px solid #ccc }
"""


BAR_PIXELS = 160


def render(manifest: Manifest, report: Report, images: NDArray[np.float32], logits: NDArray[np.float32]) -> str:
    """Return the page. It shows `images` [n, C, H, W] with the labels of `logits` [n, classes]."""
    title = html.escape(f"paraexport: {manifest.source.name}")
    introduction = "".join(f"<p>{html.escape(text)}</p>" for text in summary.introduction(manifest))
    heading = [*summary.heading(manifest), f"built {report.created}"]
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>{STYLE}</style>",
        f"<h1>{title}</h1>",
        introduction,
        "<p>" + "<br>".join(html.escape(line) for line in heading) + "</p>",
        *sections(summary.cautions(manifest, report)),
        *sections(summary.results(manifest, report)),
        "<h2>Golden images, with PyTorch's answers</h2>",
        *pictures(images, logits, manifest),
        *sections(summary.details(manifest, report)),
        "</html>",
    ]
    return "\n".join(parts) + "\n"


def sections(items: Iterable[Section]) -> Iterator[str]:
    for section in items:
        yield f"<h2>{html.escape(section.title)}</h2>"
        yield from map(block, section.blocks)


def block(item: Block) -> str:
    if isinstance(item, Line):
        return f"<p{tone(item.tone)}>{html.escape(item.text)}</p>"
    return table(item)


def table(item: Table) -> str:
    titles = "".join(f"<th>{html.escape(title)}</th>" for title in item.head)
    head = f"<tr>{titles}</tr>" if any(item.head) else ""
    return f"<table>{head}" + "".join(f"<tr>{''.join(map(cell, row))}</tr>" for row in item.rows) + "</table>"


def cell(item: Cell) -> str:
    if item.bar is not None:
        return f'<td><div class="bar" style="width:{BAR_PIXELS * item.bar:.0f}px"></div></td>'
    return f"<td{tone(item.tone, 'number' if item.is_number else '')}>{html.escape(item.text)}</td>"


def tone(*names: str) -> str:
    """Return the HTML attribute for the class names that are not empty."""
    classes = " ".join(filter(None, names))
    return f' class="{classes}"' if classes else ""


def pictures(images: NDArray[np.float32], logits: NDArray[np.float32], manifest: Manifest) -> Iterator[str]:
    for image, outputs in zip(images, logits, strict=True):
        data = base64.b64encode(png(image, manifest.preprocessing)).decode()
        best = ranked(outputs, manifest.labels, manifest.scores)[0]
        caption = html.escape(f"{best.label} {text_of(best.score, manifest.scores)}")
        yield f'<figure><img alt="" src="data:image/png;base64,{data}"><figcaption>{caption}</figcaption></figure>'


def png(image: NDArray[np.float32], preprocessing: Preprocessing) -> bytes:
    """Undo the preprocessing of a float32 image [C, H, W], and return it as PNG."""
    from PIL import Image

    mean, std = (np.array(values, np.float32)[:, None, None] for values in (preprocessing.mean, preprocessing.std))
    pixels = np.clip(np.rint((image * std + mean) * 255), 0, 255).astype(np.uint8).transpose(1, 2, 0)
    shown = pixels if pixels.shape[2] in (1, 3) else pixels[:, :, :1]
    stream = io.BytesIO()
    Image.fromarray(shown.squeeze(2) if shown.shape[2] == 1 else shown).save(stream, "png")
    return stream.getvalue()
