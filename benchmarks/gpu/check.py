"""Check and measure everything that needs a GPU, in one run.

    make gpu-check            # or: python -m benchmarks.gpu.check -o gpu-check

The run checks the parity of every engine, runs the tests that need a GPU, and measures latency against L, peers, the
fraction of the roofline, and gates. It needs no network. The folder then has `gpu.csv`, and `gpu.md` with the machine,
its ceilings, the gates, the tests, and what was skipped.

A target that is not installed, PyTorch without CUDA, and everything that there is no time for are skipped by name. The
exit code is 1 if a check, a gate or a test failed, and 3 if nothing could run. So far this script has only been run on
machines without a GPU.
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
from benchmarks.gpu.budget import TimeBudget
from benchmarks.gpu.gates import BRANCHES_PART, MANY, SERIAL_PART, Gate, gates
from benchmarks.gpu.measure import Run, measure_batches
from benchmarks.gpu.report import write
from benchmarks.gpu.rows import Row, describe_error, skipped
from benchmarks.harness import ceilings, machine
from benchmarks.harness.ceilings import Ceilings
from benchmarks.harness.prepared import BATCHES, MAX_BATCH, Models, Prepared
from benchmarks.harness.subjects import OURS, released
from benchmarks.roofline import Work, count_work
from paraexport import targets
from paraexport.model.spec import Spec
from paraexport.pipeline.choices import PRECISIONS
from paraexport.targets.compilation import EngineInfo, EngineOptions
from paraexport.targets.folder import Folder
from paraexport.targets.trt.device import find_device
from paraexport.targets.trt.session import EngineSession
from paraexport.timing.clock import silent

TARGETS = ("tensorrt", "tensorrt-rtx", "onnxruntime-cuda", "onnxruntime-tensorrt", "onnxruntime-tensorrt-rtx")
BRANCHES, DEPTH = (1, 2, 4, 8, 16, 32), 2
GATED = (1, MANY)
"""The gates need these, so they come first, while there is time."""
SECONDS = 460.0
"""For everything. The tests get at most `run_tests.SECONDS` of it."""


@dataclasses.dataclass(frozen=True)
class Conditions:
    budget: TimeBudget
    models: Models
    ceiling: Ceilings | str
    """Or the reason why there is none. Then rows have no fraction of the roofline."""


@dataclasses.dataclass(frozen=True)
class Opened:
    """An engine that runs, and facts about it."""

    run: Run
    engine: EngineInfo | None
    """None if the target does not compile ahead of time."""
    work: dict[int, Work]
    """By batch; empty if a shape is unknown, as it is behind operators that only one runtime has."""
    before_bytes: int | None
    """Memory of the GPU in use before the engine was opened."""


def open_engine(target: str, prepared: Prepared, layout: str, precision: str, folder: Path) -> Opened:
    """Compile the model if the target does that ahead of time, and open it. It creates `folder`."""
    compiler, spec = targets.compiler(target), prepared.spec
    shutil.copytree(prepared.graph(target, layout, precision), folder)
    engine = compiler.compile_model(folder, MAX_BATCH, EngineOptions(), silent) if compiler else None
    image = (spec.channels, *spec.image_size)
    workload = targets.Workload(image=image, max_batch=MAX_BATCH, precision=precision)
    work: dict[int, Work] = {}
    with contextlib.suppress(ValueError):
        graph = ir.load(folder / "model.onnx").graph
        work = {batch: count_work(graph, batch) for batch in BATCHES}
    before = memory.in_use_bytes()
    return Opened(targets.get(target).open_session(Folder(folder), workload), engine, work, before)


def with_roofline(row: Row, work: Work | None, ceiling: Ceilings | str) -> Row:
    """The row with its counted work, and with the fraction of the roofline if the ceilings are known."""
    if work is None:
        return row
    row = dataclasses.replace(row, gflop=sum(work.operations.values()) / 1e9, moved_mb=work.bytes / 1e6)
    if isinstance(ceiling, str) or row.latency_ms is None or not work.operations.keys() <= ceiling.peaks.keys():
        return row
    floor_ms = 1e3 * work.floor_s(ceiling)
    return dataclasses.replace(row, floor_ms=floor_ms, attained=floor_ms / row.latency_ms)


def engines(
    part: str, spec: Spec, layouts: Sequence[str], precisions: Sequence[str], conditions: Conditions
) -> Iterator[Row]:
    """A row for each batch. If an engine fails, its row has the error, and the others still run."""
    budget = conditions.budget
    for target in TARGETS:
        here = targets.get(target).availability()
        for layout in layouts:
            for precision in precisions:
                row = Row(part, f"{target}, {layout}", precision, spec.branches, spec.depth)
                unsupported = targets.get(target).dialect.refuses.get(precision, "")
                if reason := here.missing or here.idle or unsupported or budget.refusal(row.contestant):
                    yield skipped(row, reason)
                    continue
                with budget.step(row.contestant):
                    try:
                        measured = measure_engine(row, target, layout, conditions.models.get(spec), conditions.ceiling)
                    except Exception as error:  # each runtime has its own errors
                        measured = [dataclasses.replace(row, passed=False, note=describe_error(error))]
                yield from measured


def measure_engine(row: Row, target: str, layout: str, prepared: Prepared, ceiling: Ceilings | str) -> list[Row]:
    """`row` at every batch. The session ends here, so that the next one can measure its own memory."""
    with tempfile.TemporaryDirectory() as folder:
        opened = open_engine(target, prepared, layout, row.precision, Path(folder) / "model")
        if isinstance(opened.run, EngineSession):
            row = dataclasses.replace(row, note=opened.run.without_graphs)
        batch_rows = [*measure_batches(with_memory(row, opened), prepared, opened.run)]
        used_bytes = memory.increase_bytes(opened.before_bytes)
        return [
            dataclasses.replace(
                with_roofline(batch_row, opened.work.get(batch_row.batch), ceiling), used_bytes=used_bytes
            )
            for batch_row in batch_rows
        ]


def with_memory(row: Row, opened: Opened) -> Row:
    if (engine := opened.engine) is None:
        return row
    context = None if engine.inspection is None else engine.inspection.memory_bytes
    return dataclasses.replace(row, memory_bytes=context, engine_bytes=engine.size_bytes)


def first_rows(conditions: Conditions) -> Iterator[Row]:
    """The rows that the gates need, and parity."""
    for branches in GATED:
        yield from engines(BRANCHES_PART, sweep_spec(branches), ("stacked",), ("fp16",), conditions)
    yield from serial(MANY, conditions)
    yield from engines("parity", sweep_spec(4), OURS, PRECISIONS, conditions)


def sweep(conditions: Conditions) -> Iterator[Row]:
    """Latency against L. The stacked layout comes first, while there is time, because it grows least with L."""
    for branches in BRANCHES:
        if branches not in GATED:
            yield from engines(BRANCHES_PART, sweep_spec(branches), ("stacked",), ("fp16",), conditions)
        yield from torch_peers.rows(BRANCHES_PART, conditions.models.get(sweep_spec(branches)), conditions.budget)
        if branches != MANY:
            yield from serial(branches, conditions)
    for layout in ("folded", "branches"):
        for branches in BRANCHES:
            yield from engines(BRANCHES_PART, sweep_spec(branches), (layout,), ("fp16",), conditions)


def sweep_spec(branches: int) -> Spec:
    return released(branches, DEPTH, "cls")


def serial(branches: int, conditions: Conditions) -> Iterator[Row]:
    spec = released(1, branches * DEPTH, "cls")
    return engines(SERIAL_PART, spec, ("stacked",), ("fp16",), conditions)


def measure_ceilings() -> Ceilings | str:
    """The ceilings of the GPU, or the reason why there are none."""
    import torch

    if not torch.cuda.is_available():
        return "PyTorch has no CUDA here"
    try:
        return ceilings.measure("cuda")
    except RuntimeError as error:  # for example, this build of PyTorch has no kernels for the GPU
        return describe_error(error)


class Results:
    """The results so far. They are written again with every row, so that a run that is stopped leaves them."""

    def __init__(self, folder: Path, ceiling: Ceilings | str) -> None:
        self.folder, self.ceiling, self.where = folder, ceiling, machine.describe()
        self.rows: list[Row] = []
        self.tests = run_tests.Tests(None, "not started")

    @property
    def gates(self) -> list[Gate]:
        return [*gates(self.rows)]

    def add(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self.rows.append(row)
            outcome = f"{row.latency_ms:.3g} ms" if row.latency_ms is not None else row.note
            click.echo(
                f"{row.part}: {row.contestant}, {row.precision}, L = {row.branches}, batch {row.batch}: {outcome}"
            )
            self.write()

    def write(self) -> None:
        write(self.folder, self.rows, self.where, self.ceiling, [*self.gates, self.tests])


@click.command(help="Check and measure everything that needs a GPU.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder for the results."
)
@click.option(
    "--seconds", type=click.FloatRange(min=0), default=SECONDS, show_default=True, help="Time for the whole run."
)
def main(*, output: Path, seconds: float) -> None:
    output.mkdir(parents=True, exist_ok=True)
    budget = TimeBudget(seconds)
    results = Results(output, measure_ceilings())
    with tempfile.TemporaryDirectory() as work:
        conditions = Conditions(budget, Models(Path(work)), results.ceiling)
        results.add(first_rows(conditions))
        results.tests = run_tests.run(output, budget.left_s())
        results.add(sweep(conditions))
    verdicts: list[Gate | run_tests.Tests] = [*results.gates, results.tests]
    for verdict in verdicts:
        click.echo(verdict)
    if any(row.passed is False for row in results.rows) or any(verdict.passed is False for verdict in verdicts):
        raise click.exceptions.Exit(1)
    if not any(row.passed for row in results.rows):
        click.echo(f"no target could run: {find_device()}", err=True)
        raise click.exceptions.Exit(3)


if __name__ == "__main__":
    main()
