"""Everything that needs a GPU, in one run: parity of every engine, latency against L, peers, memory, roofline, gates.

    make gpu-check            # or: python -m benchmarks.gpu_check -o gpu-check

The results are in one folder: `gpu.csv`, and `gpu.md` with the machine, the ceilings that were measured in the same run
(`benchmarks.ceilings`), the gates (`benchmarks.gates`), and what was left out. What is missing is skipped by name: a
target that is not installed, PyTorch without CUDA, what there is no time for. It needs no network. The exit code is 1
where a check or a gate failed, 3 where nothing could run at all. It has itself been run only where there is no GPU.
"""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from benchmarks import ceilings, gpu_memory, machine
from benchmarks.ceilings import Ceilings
from benchmarks.gates import BRANCHES_PART, MANY, SERIAL_PART, Gate, gates
from benchmarks.gpu_rows import Row, skipped, write
from benchmarks.rewrites import released
from benchmarks.roofline import Work, work_of
from benchmarks.subjects import OURS, seeded_model
from paraexport import drafts, targets
from paraexport.clock import silent
from paraexport.compilation import EngineInfo, EngineOptions
from paraexport.dataset import made_up_samples
from paraexport.errors import ParaexportError
from paraexport.golden import answers
from paraexport.limits import LIMITS
from paraexport.options import PRECISIONS, Options
from paraexport.paraformer import ParaFormer
from paraexport.spec import Preprocessing, Spec
from paraexport.targets.trt.device import find_device
from paraexport.targets.trt.session import EngineSession
from paraexport.trace import trace

TARGETS = ("tensorrt", "tensorrt-rtx", "onnxruntime-cuda", "onnxruntime-tensorrt", "onnxruntime-tensorrt-rtx")
BRANCHES, BATCHES, DEPTH = (1, 2, 4, 8, 16, 32), (1, 32), 2
GATED = (1, MANY)
"""What the gates are about comes first, so that time is left for it."""
BURSTS, BURST_S, WARM_UP = 5, 0.1, 5
SECONDS, FIRST_S = 460.0, 20.0
"""For all; and what the first step of a kind is taken to need."""
Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]


class Clock:
    """What is left of the time that the whole may take, and how long steps took so far."""

    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds
        self.longest: dict[str, float] = {}

    def refusal(self, kind: str) -> str:
        """Why a step of this kind is not begun, or nothing: the next may take twice as long as the longest so far."""
        left, longest = self.end - time.monotonic(), self.longest.get(kind)
        if left > 2 * (longest or FIRST_S):
            return ""
        return (
            f"no time left: {max(left, 0):.0f} s, and {kind} took up to {longest:.0f} s" if longest else "no time left"
        )

    @contextlib.contextmanager
    def step(self, kind: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            self.longest[kind] = max(self.longest.get(kind, 0.0), time.monotonic() - started)


@dataclasses.dataclass(frozen=True)
class Conditions:
    clock: Clock
    ceiling: Ceilings | None
    """None where PyTorch has no CUDA; then no fraction of the roofline is told."""


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


def opened(target: str, model: ParaFormer, layout: str, precision: str, work: Path) -> Opened:
    """A session for the model, with its engine where the target compiles one beforehand; `work` is a new folder."""
    compiler, spec = targets.compiler(target), model.spec
    images = Preprocessing(image_size=spec.image_size, channels=spec.channels, resize=spec.image_size)
    samples = made_up_samples(images)
    logits = np.concatenate([answers(model)(batch) for batch in samples.batches(8)])
    traced = work / "traced/model.onnx"
    traced.parent.mkdir(parents=True)
    trace(model, spec, traced)
    options = Options(target=target, precision=precision, layout=layout, max_batch=max(BATCHES))
    (draft,) = drafts.make(traced, options, (target,), work, drafts.Images(samples, samples, logits))
    engine = compiler.compile_model(draft.folder, options.max_batch, EngineOptions(), silent) if compiler else None
    image = (spec.channels, *spec.image_size)
    workload = targets.Workload(image=image, max_batch=options.max_batch, precision=precision)
    counted: dict[int, Work] = {}
    with contextlib.suppress(ValueError):
        graph = ir.load(draft.folder / "model.onnx").graph
        counted = {batch: work_of(graph, batch) for batch in BATCHES}
    before = gpu_memory.in_use_bytes()
    return Opened(targets.get(target).open_session(draft.folder, workload), engine, counted, before)


def latency_ms(run: Callable[[], object]) -> float:
    """The median, over bursts, of the median in each, from images on the host to logits on the host."""
    for _ in range(WARM_UP):
        run()
    bursts = []
    for _ in range(BURSTS):
        found: list[float] = []
        end = time.perf_counter() + BURST_S
        while time.perf_counter() < end:
            start = time.perf_counter()
            run()
            found.append(1e3 * (time.perf_counter() - start))
        bursts.append(statistics.median(found))
    return statistics.median(bursts)


def measured(row: Row, model: ParaFormer, run: Run) -> Iterator[Row]:
    """`row` at every batch."""
    spec = model.spec
    random = np.random.default_rng(0)
    images = random.standard_normal((max(BATCHES), spec.channels, *spec.image_size), np.float32)
    expected = answers(model)(images)
    limit = LIMITS[row.precision]["parity"].value
    for batch in BATCHES:
        got = run(images[:batch])
        error = float(np.abs(got - expected[:batch]).max() / np.abs(expected).max())
        spent = latency_ms(lambda batch=batch: run(images[:batch]))  # type: ignore[misc]
        yield dataclasses.replace(row, batch=batch, latency_ms=spent, error=error, passed=error <= limit)


def with_roofline(row: Row, work: Work | None, measured: Ceilings | None) -> Row:
    """The row with what was counted, and the fraction of the roofline where its ceilings are known."""
    if work is None:
        return row
    row = dataclasses.replace(row, gflop=sum(work.operations.values()) / 1e9, moved_mb=work.bytes / 1e6)
    if measured is None or row.latency_ms is None or any(kind not in measured.peaks for kind in work.operations):
        return row
    floor_ms = 1e3 * work.floor_s(measured)
    return dataclasses.replace(row, floor_ms=floor_ms, attained=floor_ms / row.latency_ms)


def engines(
    part: str, spec: Spec, layouts: Sequence[str], precisions: Sequence[str], conditions: Conditions
) -> Iterator[Row]:
    clock = conditions.clock
    model = seeded_model(spec)
    for target in TARGETS:
        here = targets.get(target).availability()
        for layout in layouts:
            for precision in precisions:
                row = Row(part, f"{target}, {layout}", precision, spec.branches, spec.depth)
                refused = targets.get(target).dialect.refuses.get(precision, "")
                if reason := here.missing or here.idle or refused or clock.refusal(target):
                    yield skipped(row, reason)
                    continue
                with tempfile.TemporaryDirectory() as folder, clock.step(target):
                    try:
                        made = opened(target, model, layout, precision, Path(folder))
                        found = [*measured(with_memory(row, made), model, made.run)]
                        used = gpu_memory.since(made.before_bytes)
                        note = made.run.without_graphs if isinstance(made.run, EngineSession) else ""
                        for one in found:
                            rated = with_roofline(one, made.work.get(one.batch), conditions.ceiling)
                            yield dataclasses.replace(rated, used_bytes=used, note=note)
                        del made
                    except ParaexportError as error:
                        yield dataclasses.replace(row, passed=False, note=str(error))


def with_memory(row: Row, made: Opened) -> Row:
    if (engine := made.engine) is None:
        return row
    context = None if engine.inspection is None else engine.inspection.memory_bytes
    return dataclasses.replace(row, memory_bytes=context, engine_bytes=engine.size_bytes)


def pytorch(part: str, spec: Spec, clock: Clock) -> Iterator[Row]:
    """Eager, compiled, and captured in a CUDA graph by torch.compile, in fp16."""
    import torch

    contestants = {"torch eager": None, "torch.compile": "default", "torch.compile, CUDA graphs": "reduce-overhead"}
    for name, mode in contestants.items():
        row = Row(part, name, "fp16", spec.branches, spec.depth, note="weights and activations all in half")
        if reason := clock.refusal(name) if torch.cuda.is_available() else "PyTorch has no CUDA here":
            yield skipped(row, reason)
            continue
        torch.cuda.reset_peak_memory_stats()
        model = seeded_model(spec)
        on_gpu: Callable[[torch.Tensor], torch.Tensor] = seeded_model(spec).half().cuda()
        if mode is not None:
            on_gpu = torch.compile(on_gpu, mode=mode)

        def run(
            images: NDArray[np.float32], on_gpu: Callable[[torch.Tensor], torch.Tensor] = on_gpu
        ) -> NDArray[np.float32]:
            with torch.inference_mode():
                return np.asarray(on_gpu(torch.from_numpy(images).cuda().half()).float().cpu().numpy())

        with clock.step(name):
            found = [*measured(row, model, run)]
        yield from (dataclasses.replace(one, used_bytes=torch.cuda.max_memory_allocated()) for one in found)
        del on_gpu, run


def rows(conditions: Conditions) -> Iterator[Row]:
    for branches in GATED:
        spec = released(branches, DEPTH, "cls")
        yield from engines(BRANCHES_PART, spec, ("stacked",), ("fp16",), conditions)
    yield from serial(MANY, conditions)
    yield from engines("parity", released(4, DEPTH, "cls"), OURS, PRECISIONS, conditions)
    for branches in BRANCHES:
        spec = released(branches, DEPTH, "cls")
        layouts = ("folded",) if branches in GATED else ("stacked", "folded")
        yield from engines(BRANCHES_PART, spec, layouts, ("fp16",), conditions)
        yield from pytorch(BRANCHES_PART, spec, conditions.clock)
        if branches != MANY:
            yield from serial(branches, conditions)


def serial(branches: int, conditions: Conditions) -> Iterator[Row]:
    spec = released(1, branches * DEPTH, "cls")
    return engines(SERIAL_PART, spec, ("stacked",), ("fp16",), conditions)


def ceilings_of_gpu() -> Ceilings | None:
    import torch

    return ceilings.measure("cuda") if torch.cuda.is_available() else None


@click.command()
@click.option("-o", "--output", type=click.Path(path_type=Path, file_okay=False), required=True)
@click.option("--seconds", type=click.FloatRange(min=0), default=SECONDS, show_default=True)
def main(*, output: Path, seconds: float) -> None:
    clock, where = Clock(seconds), machine.describe()
    ceiling = ceilings_of_gpu()
    found: list[Row] = []
    judged: list[Gate] = []
    for row in rows(Conditions(clock, ceiling)):
        found.append(row)
        judged = [*gates(found)]
        shown = f"{row.latency_ms:.3g} ms" if row.latency_ms is not None else row.note
        click.echo(f"{row.part}: {row.contestant}, {row.precision}, L = {row.branches}, batch {row.batch}: {shown}")
        write(output, found, where, ceiling, judged)
    for gate in judged:
        click.echo(gate)
    if any(row.passed is False for row in found) or any(gate.passed is False for gate in judged):
        raise click.exceptions.Exit(1)
    if not any(row.passed for row in found):
        click.echo(f"nothing could run: {find_device()}", err=True)
        raise click.exceptions.Exit(3)


if __name__ == "__main__":
    main()
