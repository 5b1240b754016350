"""Defines `paraexport bench`, which times bundles side by side."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from paraexport.cli import bench_predict
from paraexport.cli.options import PATH, output_options, threads
from paraexport.cli.output import emit_json, warn
from paraexport.cli.render import print_sections
from paraexport.cli.stages import Stages
from paraexport.errors import InputError

if TYPE_CHECKING:
    from paraexport.bench.bench import Peer, Settings
    from paraexport.bench.rows import Row
    from paraexport.bench.sweep import Sweep
    from paraexport.timing.clock import Progress

PEERS = ("torch", "compile")
PERCENTILE = 50.0


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
    default=PERCENTILE,
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
@click.option(
    "--sweep-branches",
    is_flag=True,
    help="Time one bundle with its first 1, 2, ... branches, and find how many are enough. It must be built with "
    "--branches-at-load.",
)
@click.option("--data", metavar="PATH", type=PATH, help="For --sweep-branches: labelled images, as in build.")
@click.option(
    "--max-drop",
    metavar="PP",
    type=click.FloatRange(0, 100),
    help="For --sweep-branches: how many points of top-1 may be lost. [default: 0.5]",
)
@click.option(
    "--predict",
    metavar="DEVICES",
    help="Run nothing: predict the latency of every layout on these devices, such as h200,rtx4090,orin, or on the cpu "
    "of this machine. An unknown name lists all.",
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
    sweep_branches: bool,
    data: Path | None,
    max_drop: float | None,
    predict: str | None,
    csv_file: Path | None,
    markdown_file: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Time bundles side by side, and beside PyTorch.

    Each contestant has a process of its own. They take turns in short windows, so that other work on the machine hits
    all of them. Windows go on until the last three of every contestant agree within 10 %. If they never do, the note
    says unstable, with the likely reason. All others are compared with the first bundle, until the ratio is known
    to about 10 %.

    \b
    Examples:
      paraexport bench model.bundle
      paraexport bench fp32.bundle int8.bundle --batch 1-64*2
      paraexport bench model.bundle --against torch,compile --checkpoint model.pt
      paraexport bench model.bundle --mode throughput --streams 4
      paraexport bench model.bundle --sweep-branches --data photos/test --max-drop 1
      paraexport bench model.bundle --predict h200,orin --batch 1-64*2
    """
    from paraexport.bench import bench, tables
    from paraexport.bench.batches import parse_batches

    of_peers = (against, checkpoint, module)
    require_fitting(mode, streams, bundles, of_peers, data, max_drop, sweep_branches=sweep_branches)
    batches = None if batch is None else parse_batches(batch)
    if predict is not None:
        others = {
            "--against": against, "--checkpoint": checkpoint, "--module": module, "--sweep-branches": sweep_branches,
            "--mode throughput": mode != "latency", "--percentile": percentile != PERCENTILE,
        }  # fmt: skip
        if reason := bench_predict.require_alone({name: bool(given) for name, given in others.items()}):
            raise usage(reason)
        files = {"csv": csv_file, "markdown": markdown_file}
        bench_predict.run(bundles, predict, batches, threads, files=files, as_json=as_json)
        return
    callers = (streams or 2) if mode == "throughput" else 1
    settings = bench.Settings(batches, threads, percentile, callers)
    for file in (csv_file, markdown_file):
        write(file, "", mode="a")  # to fail before the measurement, not after it, and keep the file if it fails
    more: dict[str, object] = {}
    beside, conclusion = "the first", ""
    with Stages(quiet=quiet) as stages:
        if sweep_branches:
            swept = run_sweep(bundles[0], settings, data, max_drop, stages)
            rows, beside, conclusion = [*swept.rows], "all branches", swept.conclusion
            more = {"enough": swept.enough, "max_drop": swept.max_drop}
        else:
            rows = bench.bench(bundles, settings, peers(against, checkpoint, module), progress=stages)
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs"
    write(csv_file, tables.as_csv(rows))
    write(markdown_file, tables.as_markdown(rows, machine, beside))
    if as_json:
        warn_of_notes(rows)
        emit_json({"machine": machine, "settings": settings, "rows": rows, **more})
        return
    print_sections([tables.section(rows, machine, beside, callers)])
    if conclusion:
        print(f"\n{conclusion}")


def require_fitting(  # noqa: PLR0917
    mode: str,
    streams: int | None,
    bundles: Sequence[Path],
    of_peers: Sequence[object],
    data: Path | None,
    max_drop: float | None,
    *,
    sweep_branches: bool,
) -> None:
    """Refuse options that do not fit together. `of_peers` are --against, --checkpoint and --module."""
    if streams is not None and mode != "throughput":
        raise usage("--streams needs --mode throughput")
    if sweep_branches and (len(bundles) > 1 or any(given is not None for given in of_peers)):
        raise usage("--sweep-branches takes one bundle, without --against, --checkpoint and --module")
    if not sweep_branches and (data is not None or max_drop is not None):
        raise usage("--data and --max-drop need --sweep-branches")


def warn_of_notes(rows: Sequence[Row]) -> None:
    for row in rows:
        if row.note:
            warn(f"{row.name}, batch {row.batch}: {row.note}")


def usage(message: str) -> click.UsageError:
    return click.UsageError(message, click.get_current_context())


def run_sweep(path: Path, settings: Settings, data: Path | None, max_drop: float | None, progress: Progress) -> Sweep:
    from paraexport.bench import sweep

    drop = sweep.MAX_DROP if max_drop is None else max_drop
    return sweep.sweep(path, settings, data=data, max_drop=drop, progress=progress, warn=warn)


def peers(against: str | None, checkpoint: Path | None, module: str | None) -> Sequence[Peer]:
    from paraexport.bench.bench import Peer
    from paraexport.pipeline.cache import require_file

    names = [name.strip() for name in against.split(",")] if against else []
    for name in names:
        if name not in PEERS:
            raise InputError("unknown name", where="--against", expected=f"{' or '.join(PEERS)}", got=name)
    if bool(names) != (checkpoint is not None):
        raise usage("--against and --checkpoint belong together")
    if module is not None and not names:
        raise usage("--module needs --against")
    return [Peer(name, require_file(checkpoint), module) for name in dict.fromkeys(names) if checkpoint is not None]


def write(file: Path | None, text: str, mode: str = "w") -> None:
    """Write a file that the user asked for."""
    if file is None:
        return
    try:
        with file.open(mode, encoding="utf-8") as opened:
            opened.write(text)
    except OSError as error:
        raise InputError("cannot be written", where=file, got=error.strerror, remedy="give another path") from error
