"""Measure latency against the number of branches, and against the serial network with as many layers.

    python -m benchmarks.paper.latency -o benchmarks/results/paper/

The paper's claim: L branches of M layers take as long as one branch, so they are N / M times as fast as the serial
network of N = L · M layers (L = 1, M = N). That needs a device that runs the branches at the same time. One core does
their arithmetic one after the other, so here latency must grow with L.

Two layouts run in ONNX Runtime: `branches`, which is the model as it is traced, and `stacked`. All models of one batch
take turns. `--device cuda` times PyTorch on a GPU instead.
"""

from __future__ import annotations

import dataclasses
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks.harness.subjects import OURS, released, seeded_model
from benchmarks.paper import timing
from benchmarks.paper.reporting import Header, output_option, print_progress, report, table
from paraexport.timing.contest import Rules
from paraexport.timing.stability import StoppingRule

DEPTHS, LAYERS, BATCHES = (1, 2, 4), 16, (1, 8)
LAYOUTS = (OURS[0], OURS[2])
RULES = dataclasses.replace(timing.TIMED, rounds=5, stop=StoppingRule(at_most=8), attempts=3)
"""A contest has 28 models, so its rounds are long."""


@dataclass(frozen=True)
class Run:
    """One model. The fields are the columns of the CSV."""

    branches: int
    depth: int
    batch: int
    way: str
    """The layout in ONNX Runtime, or the way to run PyTorch."""
    latency_ms: float
    """The median of the medians of the bursts. Their quartiles follow."""
    quartile_1_ms: float
    quartile_3_ms: float
    fastest_ms: float
    """The fastest call, which other work on the machine disturbs least."""
    gflop: float | None = None
    other_cpus: float | None = None
    """CPUs that other processes kept busy meanwhile. Do not trust times if it is above 0.1."""
    note: str = ""


def shapes(depths: Sequence[int], layers: int) -> list[tuple[int, int]]:
    """(L, M) for all powers of two up to L · M = `layers`, and the serial networks."""
    counts = [1 << power for power in range(layers.bit_length()) if 1 << power <= layers]
    parallel = [(count, depth) for depth in depths for count in counts if count * depth <= layers]
    return list(dict.fromkeys([*parallel, *((1, count) for count in counts)]))


def rules_for(*, quick: bool) -> Rules:
    return timing.rules(quick=True) if quick else RULES


def on_cpu(depths: Sequence[int], layers: int, batches: Sequence[int], threads: int, *, quick: bool) -> list[Run]:
    sizes = shapes(depths, layers)
    names = {f"L = {branches}, M = {depth}": (branches, depth) for branches, depth in sizes}
    models = {name: seeded_model(released(*shape, "cls")) for name, shape in names.items()}
    runs = []
    with tempfile.TemporaryDirectory() as temporary:
        subjects = timing.prepare(models, batches, Path(temporary), LAYOUTS)
        for batch in batches:
            entries = {(name, layout): subject for name, subject in subjects.items() for layout in LAYOUTS}
            rows = timing.run_contest(entries, batch, rules_for(quick=quick), threads)
            for (name, layout), row in rows.items():
                times_ms = row.latency_ms, row.quartile_1_ms, row.quartile_3_ms, row.fastest_ms
                if None in times_ms:
                    raise RuntimeError(f"{name}, {layout}: {row.note}")
                runs.append(
                    Run(*names[name], batch, layout, *times_ms, row.gflop, row.other_cpus, row.note)  # type: ignore[arg-type]
                )
    return runs


def describe(runs: Sequence[Run]) -> str:
    found = {(r.branches, r.depth, r.batch, r.way): r for r in runs}
    depths = [depth for depth in DEPTHS if any(r.depth == depth and r.branches > 1 for r in runs)]
    layers = max(r.branches * r.depth for r in runs)
    parts = []
    for batch in dict.fromkeys(r.batch for r in runs):
        for way in dict.fromkeys(r.way for r in runs):
            lines = []
            for count in sorted({r.branches * r.depth for r in runs}):
                serial = found[1, count, batch, way]
                line = [str(count), milliseconds(serial)]
                for depth in depths:
                    parallel = found.get((count // depth, depth, batch, way)) if count % depth == 0 else None
                    line += ["", ""] if parallel is None else [milliseconds(parallel), ratio(serial, parallel)]
                lines.append(line)
            headings = [
                "N layers",
                "serial, ms",
                *(text for d in depths for text in (f"M = {d}, ms", f"× (claim N/{d})")),
            ]
            parts.append(f"Batch {batch}, {way}\n\n{table(headings, lines)}")
    whole = []
    for serial in (r for r in runs if (r.branches, r.depth) == (1, layers)):
        for depth in depths:
            branches = layers // depth
            parallel, alone = (found[count, depth, serial.batch, serial.way] for count in (branches, 1))
            whole.append(
                [
                    str(serial.batch), serial.way, f"{branches} × {depth}", str(branches), ratio(serial, parallel),
                    fastest_ratio(serial, parallel), fastest_ratio(serial, alone),
                ]
            )  # fmt: skip
    headings = ["batch", "way", "L × M", "claim N/M", "by medians", "by fastest calls", "one branch, by fastest calls"]
    unstable = [r for r in runs if r.note]
    busiest = max((r.other_cpus or 0 for r in runs), default=0)
    return "\n\n".join(
        [
            "In brackets: quartiles of the bursts. × is the latency of the serial network divided by that on its left.",
            *parts,
            f"The latency of the serial network of N = {layers} layers divided by that of L × M. The last column "
            "divides by one branch alone: so it would be if every branch had its own device, and sending cost nothing."
            "\n\n"
            f"{table(headings, whole)}",
            f"{len(unstable)} of {len(runs)} measurements never became stable: the last bursts differ by over 10 %.",
            f"Other processes used at most {busiest:.2f} CPUs on average during the bursts of a model.",
        ]
    )


def milliseconds(run: Run) -> str:
    return f"{run.latency_ms:.3g} ({run.quartile_1_ms:.3g} – {run.quartile_3_ms:.3g})"


def ratio(serial: Run, parallel: Run) -> str:
    return f"{serial.latency_ms / parallel.latency_ms:.2f}"


def fastest_ratio(serial: Run, parallel: Run) -> str:
    return f"{serial.fastest_ms / parallel.fastest_ms:.2f}"


def draw(runs: Sequence[Run], folder: Path, note: str) -> None:
    from benchmarks.paper.pictures import Panel, draw

    way = runs[-1].way
    panels = []
    for batch in dict.fromkeys(r.batch for r in runs):
        here = [r for r in runs if (r.batch, r.way) == (batch, way)]
        curves = {
            f"M = {depth}": {r.branches * depth: quartiles(r) for r in here if r.depth == depth} for depth in DEPTHS
        }
        curves["serial, L = 1"] = {r.depth: quartiles(r) for r in here if r.branches == 1}
        panels.append(Panel(f"{way}, batch {batch}", "N = L · M, layers in all", "ms", curves, True, statistics.median))
    draw(panels, folder / "latency.svg", note)


def quartiles(run: Run) -> list[float]:
    return [run.quartile_1_ms, run.latency_ms, run.quartile_3_ms]


@click.command(help="Latency against branches, and against the serial network.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--depth", "depths", multiple=True, default=DEPTHS, show_default=True, help="M, layers in a branch.")
@click.option("--layers", default=LAYERS, show_default=True, help="The largest L · M.")
@click.option("--batch", "batches", multiple=True, default=BATCHES, show_default=True, help="Images in a call.")
@click.option("--threads", default=timing.THREADS, show_default=True, help="Threads of ONNX Runtime.")
@click.option("--quick", is_flag=True, help="A few short bursts, to see that the script runs.")
@output_option
def main(
    *, device: str, depths: tuple[int, ...], layers: int, batches: tuple[int, ...], threads: int, quick: bool,
    output: Path | None,
) -> None:  # fmt: skip
    name, rules = "latency", rules_for(quick=quick)
    if device == "cuda":
        from benchmarks.paper import latency_cuda

        name = "latency_cuda"
        header = Header("released architecture, 65 tokens, D = 192, float16, PyTorch on a GPU", latency_cuda.settings())
        runs = latency_cuda.measure(shapes(depths, layers), batches, quick=quick)
    else:
        settings = f"{rules.rounds_text} bursts of {1e3 * rules.burst_s:.0f} ms each, all models of a batch in turns"
        text = f"released architecture, 65 tokens, D = 192, float32, ONNX Runtime with {threads} thread(s)"
        header = Header(text, settings)
        runs = on_cpu(depths, layers, batches, threads, quick=quick)
    report(name, Run, runs, describe(runs), header, output=output, picture=device == "cpu")
    if output is not None and device == "cpu":
        draw(runs, output, f"{header.machine.cpu}, {threads} thread(s); median and quartiles of the bursts")
        print_progress("wrote latency.svg")


if __name__ == "__main__":
    main()
