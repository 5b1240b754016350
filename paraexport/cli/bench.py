"""Defines `paraexport bench`, which times bundles side by side."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from paraexport.cli.options import PATH, output_options, threads
from paraexport.cli.output import emit_json, warn
from paraexport.cli.render import print_sections
from paraexport.cli.stages import Stages
from paraexport.errors import InputError

if TYPE_CHECKING:
    from paraexport.bench.bench import Peer

PEERS = ("torch", "compile")


@click.command("bench")
@click.argument("bundles", metavar="BUNDLE...", nargs=-1, required=True, type=PATH)
@click.option(
    "--batch",
    metavar="SIZES",
    help="Batch sizes: 1,8,32, or ranges such as 1-64*2 and 8-32+8. [default: 1,8]",
)
@click.option(
    "--against",
    metavar="NAMES",
    help=f"Also time the checkpoint in PyTorch: {' or '.join(PEERS)}, or both with a comma. Needs --checkpoint.",
)
@click.option("--checkpoint", metavar="CKPT", type=PATH, help="The checkpoint of --against.")
@click.option("--module", metavar="FILE.py:FUNCTION", help="As in build. This runs the code in FILE.py.")
@click.option("--threads", metavar="N", callback=threads, help="Threads of each contestant. [default: its own]")
@click.option(
    "--percentile",
    default=50.0,
    show_default=True,
    metavar="P",
    type=click.FloatRange(1, 99),
    help="Measure until this percentile is stable.",
)
@click.option(
    "--mode",
    default="latency",
    show_default=True,
    type=click.Choice(("latency", "throughput")),
    help="throughput: several threads of a contestant call at the same time, see --streams.",
)
@click.option(
    "--streams", metavar="N", type=click.IntRange(2, 1024), help="Threads that call, for throughput. [default: 2]"
)
@click.option("--csv", "csv_file", metavar="FILE", type=PATH, help="Also write the rows as CSV.")
@click.option("--markdown", "markdown_file", metavar="FILE", type=PATH, help="Also write the table as Markdown.")
@output_options
def command(
    *,
    bundles: tuple[Path, ...],
    batch: str | None,
    against: str | None,
    checkpoint: Path | None,
    module: str | None,
    threads: int | None,
    percentile: float,
    mode: str,
    streams: int | None,
    csv_file: Path | None,
    markdown_file: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Time bundles side by side, and beside PyTorch.

    Each contestant has a process of its own. They take turns in short windows, so that other work on the machine hits
    all of them. Windows go on until the last three of every contestant agree within 10 %. If they never do, the note
    says unstable, with the likely reason. All others are compared with the first bundle.

    \b
    Examples:
      paraexport bench model.bundle
      paraexport bench fp32.bundle int8.bundle --batch 1-64*2
      paraexport bench model.bundle --against torch,compile --checkpoint model.pt
      paraexport bench model.bundle --mode throughput --streams 4
    """
    from paraexport.bench import bench, tables
    from paraexport.bench.batches import parse_batches

    if streams is not None and mode != "throughput":
        raise click.UsageError("--streams needs --mode throughput", click.get_current_context())
    batches = None if batch is None else parse_batches(batch)
    callers = (streams or 2) if mode == "throughput" else 1
    settings = bench.Settings(batches, threads, percentile, callers)
    for file in (csv_file, markdown_file):
        if file is not None:
            write(file, "")  # to fail before the measurement, not after it
    with Stages(quiet=quiet) as stages:
        rows = bench.bench(bundles, settings, peers(against, checkpoint, module), progress=stages)
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs"
    for file, text in ((csv_file, tables.as_csv(rows)), (markdown_file, tables.as_markdown(rows, machine))):
        if file is not None:
            write(file, text)
    for row in rows:
        if row.note:
            warn(f"{row.name}, batch {row.batch}: {row.note}")
    if as_json:
        emit_json({"machine": machine, "settings": settings, "rows": rows})
        return
    print_sections([tables.section(rows, machine)])


def peers(against: str | None, checkpoint: Path | None, module: str | None) -> Sequence[Peer]:
    from paraexport.bench.bench import Peer
    from paraexport.pipeline.cache import require_file

    names = [name.strip() for name in against.split(",")] if against else []
    for name in names:
        if name not in PEERS:
            raise InputError("unknown name", where="--against", expected=f"{' or '.join(PEERS)}", got=name)
    if bool(names) != (checkpoint is not None):
        raise click.UsageError("--against and --checkpoint belong together", click.get_current_context())
    return [Peer(name, require_file(checkpoint), module) for name in dict.fromkeys(names) if checkpoint is not None]


def write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError("cannot be written", where=file, got=error.strerror, remedy="give another path") from error
