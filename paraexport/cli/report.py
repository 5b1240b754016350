"""Defines `paraexport report`, which draws the report of a bundle, or compares several bundles on one page."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from paraexport.cli.options import PATH, output_options
from paraexport.cli.output import emit_json, escaped
from paraexport.cli.signals import leaving
from paraexport.cli.stages import Stages
from paraexport.errors import OutputError
from paraexport.system.plain_paths import name_of, readable
from paraexport.targets.folder import MANIFEST

if TYPE_CHECKING:
    from paraexport.bundle.records import Report

COMPARISON = "comparison.html"


@click.command("report")
@click.argument("bundles", metavar="BUNDLE...", nargs=-1, required=True, type=PATH)
@click.option(
    "-o",
    "--output",
    metavar="PAGE.html",
    type=PATH,
    help=f"The page to write. [default: model.report.html for model.bundle; {COMPARISON} for several]",
)
@click.option("--different-models", is_flag=True, help="Also compare bundles of different checkpoints.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
@output_options
def command(
    *, bundles: tuple[Path, ...], output: Path | None, different_models: bool, force: bool, as_json: bool, quiet: bool
) -> None:
    """Write the report of a bundle as an HTML page.

    With several bundles, the page compares their target, precision, size, accuracy and latency. They must come from the
    same checkpoint. The page needs no network and no other file. It shows what report.json in the bundle says, and
    nothing else. Nothing in a bundle is changed.

    \b
    Examples:
      paraexport report model.bundle
      paraexport report model.bundle -o model.html --force
      paraexport report fp32.bundle fp16.bundle int8.bundle -o formats.html
    """
    with leaving("nothing was written"), Stages(quiet=quiet) as stages:
        place = output or default_output(bundles)
        require_place(place, force=force)
        stages("reading")
        reports = [read(path) for path in bundles]
        from paraexport.page import comparison
        from paraexport.page import report as pages

        if len(reports) > 1 and not different_models:
            comparison.require_same_model(reports)
        stages("drawing")
        content = pages.page(reports[0]) if len(reports) == 1 else comparison.page(reports)
        write(place, content, force=force)
    if as_json:
        rows = [comparison.row(report) for report in reports]
        emit_json({"output": str(place), "size_bytes": len(content.encode()), "bundles": rows})
        return
    print(f"wrote {escaped(place)}; open it in a browser")


def default_output(bundles: tuple[Path, ...]) -> Path:
    """The page's place in the current folder."""
    return Path(COMPARISON if len(bundles) > 1 else f"{name_of(bundles[0]).removesuffix('.bundle')}.report.html")


def read(path: Path) -> Report:
    """Read the report of the bundle at `path`. Older reports leave facts about the model to the manifest."""
    from paraexport.bundle import read_bundle, report

    bundle = read_bundle(path)
    found = report.read(bundle.files)
    return dataclasses.replace(found, bundle=readable(name_of(path)), subject=found.subject or bundle.manifest.subject)


def require_place(place: Path, *, force: bool) -> None:
    """Raise an `OutputError` if the page cannot be written there, before any work is done."""
    from paraexport.optimizer import saving

    if (place.parent / MANIFEST).exists():
        raise OutputError("a bundle must not get other files", where=place, remedy="give an -o outside the bundle")
    saving.check(place, (), force=force)


def write(place: Path, content: str, *, force: bool) -> None:
    """Write the page in one step."""
    from paraexport.optimizer import saving

    with saving.staging(place, force=force) as (folder, _):
        (folder / place.name).write_text(content, encoding="utf-8")
