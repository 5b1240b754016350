"""Everything that needs a GPU, in one run: parity of every engine, tests, latency against L, peers, roofline, gates.

    make gpu-check            # or: python -m benchmarks.gpu.check -o gpu-check

The results are in one folder: `gpu.csv`, and `gpu.md` with the machine, the ceilings that were measured in the same run
(`benchmarks.harness.ceilings`), the gates, the tests, and what was left out. What
is missing is skipped by name: a target that is not installed, PyTorch without CUDA, what there is no time for. It needs
no network. The exit code is 1 where a check, a gate or a test failed, 3 where nothing could run at all. It has itself
been run only where there is no GPU.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import click
import onnx_ir as ir

from benchmarks.gpu import memory, run_tests, torch_peers
from benchmarks.gpu.gates import BRANCHES_PART, MANY, SERIAL_PART, Gate, gates
from benchmarks.gpu.measure import Clock, Run, measured
from benchmarks.gpu.rows import Row, skipped, told, write
from benchmarks.harness import ceilings, machine
from benchmarks.harness.ceilings import Ceilings
from benchmarks.harness.prepared import BATCHES, MAX_BATCH, Models, Prepared
from benchmarks.harness.subjects import OURS
from benchmarks.rewrites import released
from benchmarks.roofline import Work, work_of
from paraexport import targets
from paraexport.model.spec import Spec
from paraexport.pipeline.options import PRECISIONS
from paraexport.targets.compilation import EngineInfo, EngineOptions
from paraexport.targets.folder import Folder
from paraexport.targets.trt.device import find_device
from paraexport.targets.trt.session import EngineSession
from paraexport.timing.clock import silent

TARGETS = ("tensorrt", "tensorrt-rtx", "onnxruntime-cuda", "onnxruntime-tensorrt", "onnxruntime-tensorrt-rtx")
BRANCHES, DEPTH = (1, 2, 4, 8, 16, 32), 2
GATED = (1, MANY)
"""What the gates are about comes first, so that time is left for it."""
SECONDS = 460.0
"""For all, tests included; they have `run_tests.SECONDS` of it at most."""


@dataclasses.dataclass(frozen=True)
class Conditions:
    clock: Clock
    models: Models
    ceiling: Ceilings | str
    """Or why there is none; then no fraction of the roofline is told."""


@dataclasses.dataclass(frozen=True)
class Opened:
    """An engine that runs, and what is known of it."""

    run: Run
    engine: EngineInfo | None
    """Of a target that compiles beforehand."""
    work: dict[int, Work]
    """By batch; empty where a shape is not known, behind operators of a runtime's own."""
    before_bytes: int | None
    """Memory of the GPU in use before it was opened."""


def opened(target: str, prepared: Prepared, layout: str, precision: str, folder: Path) -> Opened:
    """A session for the model, with its engine where the target compiles one beforehand; `folder` is made for it."""
    compiler, spec = targets.compiler(target), prepared.spec
    shutil.copytree(prepared.graph(target, layout, precision), folder)
    engine = compiler.compile_model(folder, MAX_BATCH, EngineOptions(), silent) if compiler else None
    image = (spec.channels, *spec.image_size)
    workload = targets.Workload(image=image, max_batch=MAX_BATCH, precision=precision)
    counted: dict[int, Work] = {}
    with contextlib.suppress(ValueError):
        graph = ir.load(folder / "model.onnx").graph
        counted = {batch: work_of(graph, batch) for batch in BATCHES}
    before = memory.in_use_bytes()
    return Opened(targets.get(target).open_session(Folder(folder), workload), engine, counted, before)


def with_roofline(row: Row, work: Work | None, measured: Ceilings | str) -> Row:
    """The row with what was counted, and the fraction of the roofline where its ceilings are known."""
    if work is None:
        return row
    row = dataclasses.replace(row, gflop=sum(work.operations.values()) / 1e9, moved_mb=work.bytes / 1e6)
    if isinstance(measured, str) or row.latency_ms is None or not work.operations.keys() <= measured.peaks.keys():
        return row
    floor_ms = 1e3 * work.floor_s(measured)
    return dataclasses.replace(row, floor_ms=floor_ms, attained=floor_ms / row.latency_ms)


def engines(
    part: str, spec: Spec, layouts: Sequence[str], precisions: Sequence[str], conditions: Conditions
) -> Iterator[Row]:
    """A row for each batch; one that fails, in whatever way, says how, and the others go on."""
    clock = conditions.clock
    for target in TARGETS:
        here = targets.get(target).availability()
        for layout in layouts:
            for precision in precisions:
                row = Row(part, f"{target}, {layout}", precision, spec.branches, spec.depth)
                refused = targets.get(target).dialect.refuses.get(precision, "")
                if reason := here.missing or here.idle or refused or clock.refusal(row.contestant):
                    yield skipped(row, reason)
                    continue
                with clock.step(row.contestant):
                    try:
                        found = engine(row, target, layout, conditions.models.of(spec), conditions.ceiling)
                    except Exception as error:  # each runtime has errors of its own
                        found = [dataclasses.replace(row, passed=False, note=told(error))]
                yield from found


def engine(row: Row, target: str, layout: str, prepared: Prepared, ceiling: Ceilings | str) -> list[Row]:
    """`row` at every batch. The session is gone afterwards, or what is opened next would not be told its memory."""
    with tempfile.TemporaryDirectory() as folder:
        made = opened(target, prepared, layout, row.precision, Path(folder) / "model")
        found = [*measured(with_memory(row, made), prepared, made.run)]
        used = memory.since(made.before_bytes)
        note = made.run.without_graphs if isinstance(made.run, EngineSession) else ""
        return [
            dataclasses.replace(with_roofline(one, made.work.get(one.batch), ceiling), used_bytes=used, note=note)
            for one in found
        ]


def with_memory(row: Row, made: Opened) -> Row:
    if (engine := made.engine) is None:
        return row
    context = None if engine.inspection is None else engine.inspection.memory_bytes
    return dataclasses.replace(row, memory_bytes=context, engine_bytes=engine.size_bytes)


def first_rows(conditions: Conditions) -> Iterator[Row]:
    """What the gates need, and parity."""
    for branches in GATED:
        yield from engines(BRANCHES_PART, swept(branches), ("stacked",), ("fp16",), conditions)
    yield from serial(MANY, conditions)
    yield from engines("parity", swept(4), OURS, PRECISIONS, conditions)


def sweep(conditions: Conditions) -> Iterator[Row]:
    """Latency against L. The layout that grows the least with it comes first, so that time is left for it."""
    for branches in BRANCHES:
        if branches not in GATED:
            yield from engines(BRANCHES_PART, swept(branches), ("stacked",), ("fp16",), conditions)
        yield from torch_peers.rows(BRANCHES_PART, conditions.models.of(swept(branches)), conditions.clock)
        if branches != MANY:
            yield from serial(branches, conditions)
    for layout in ("folded", "branches"):
        for branches in BRANCHES:
            yield from engines(BRANCHES_PART, swept(branches), (layout,), ("fp16",), conditions)


def swept(branches: int) -> Spec:
    return released(branches, DEPTH, "cls")


def serial(branches: int, conditions: Conditions) -> Iterator[Row]:
    spec = released(1, branches * DEPTH, "cls")
    return engines(SERIAL_PART, spec, ("stacked",), ("fp16",), conditions)


def ceilings_of_gpu() -> Ceilings | str:
    """Or why there are none."""
    import torch

    if not torch.cuda.is_available():
        return "PyTorch has no CUDA here"
    try:
        return ceilings.measure("cuda")
    except RuntimeError as error:  # such as a GPU that this build of PyTorch has no kernels for
        return told(error)


class Results:
    """What was found so far, written anew with every row: a run that is stopped leaves what it has."""

    def __init__(self, folder: Path, ceiling: Ceilings | str) -> None:
        self.folder, self.ceiling, self.where = folder, ceiling, machine.describe()
        self.rows: list[Row] = []
        self.tests = run_tests.Tests(None, "did not begin")

    @property
    def judged(self) -> list[Gate]:
        return [*gates(self.rows)]

    def take(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self.rows.append(row)
            shown = f"{row.latency_ms:.3g} ms" if row.latency_ms is not None else row.note
            click.echo(f"{row.part}: {row.contestant}, {row.precision}, L = {row.branches}, batch {row.batch}: {shown}")
            self.write()

    def write(self) -> None:
        write(self.folder, self.rows, self.where, self.ceiling, [*self.judged, self.tests])


@click.command()
@click.option("-o", "--output", type=click.Path(path_type=Path, file_okay=False), required=True)
@click.option("--seconds", type=click.FloatRange(min=0), default=SECONDS, show_default=True)
def main(*, output: Path, seconds: float) -> None:
    output.mkdir(parents=True, exist_ok=True)
    clock = Clock(seconds)
    found = Results(output, ceilings_of_gpu())
    with tempfile.TemporaryDirectory() as work:
        conditions = Conditions(clock, Models(Path(work)), found.ceiling)
        found.take(first_rows(conditions))
        found.tests = run_tests.run(output, clock.left())
        found.take(sweep(conditions))
    verdicts: list[Gate | run_tests.Tests] = [*found.judged, found.tests]
    for verdict in verdicts:
        click.echo(verdict)
    if any(row.passed is False for row in found.rows) or any(verdict.passed is False for verdict in verdicts):
        raise click.exceptions.Exit(1)
    if not any(row.passed for row in found.rows):
        click.echo(f"no target could run: {find_device()}", err=True)
        raise click.exceptions.Exit(3)


if __name__ == "__main__":
    main()
