"""Everything that needs a GPU, in one run: parity of every engine, latency against L, peers; results in one folder.

    make gpu-check            # or: python -m benchmarks.gpu_check -o gpu-check

What is missing is skipped by name: a target that is not installed, PyTorch without CUDA, what there is no time for. It
needs no network. The exit code is 1 where a check failed, 3 where nothing could run at all. It has itself been run only
where there is no GPU.
"""

from __future__ import annotations

import csv
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks import machine
from benchmarks.rewrites import released
from benchmarks.subjects import OURS, seeded_model
from paraexport import drafts, targets
from paraexport.clock import silent
from paraexport.compilation import EngineInfo, EngineOptions
from paraexport.dataset import made_up_samples
from paraexport.errors import ParaexportError
from paraexport.golden import answers
from paraexport.options import PRECISIONS, Options
from paraexport.paraformer import ParaFormer
from paraexport.spec import Preprocessing, Spec
from paraexport.targets.trt.device import find_device
from paraexport.targets.trt.session import EngineSession
from paraexport.trace import trace
from paraexport.validate import LIMITS

TARGETS = ("tensorrt", "tensorrt-rtx", "onnxruntime-cuda", "onnxruntime-tensorrt", "onnxruntime-tensorrt-rtx")
BRANCHES, BATCHES, DEPTH = (1, 2, 4, 8, 16, 32), (1, 32), 2
BURSTS, BURST_S, WARM_UP = 5, 0.1, 5
SECONDS = 460.0
Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@dataclasses.dataclass(frozen=True)
class Row:
    """One thing that was measured, or skipped and why."""

    part: str
    contestant: str
    precision: str
    branches: int
    depth: int
    batch: int = 0
    latency_ms: float | None = None
    error: float | None = None
    """max |Δ logit| / max |logit| against PyTorch on the CPU in float32."""
    memory_bytes: int | None = None
    """Of one execution context."""
    passed: bool | None = None
    note: str = ""


class Clock:
    """What is left of the time that the whole may take."""

    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds

    @property
    def over(self) -> bool:
        return time.monotonic() > self.end


def opened(target: str, model: ParaFormer, layout: str, precision: str, work: Path) -> tuple[Run, EngineInfo | None]:
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
    return targets.get(target).open_session(draft.folder, workload), engine


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


def engines(part: str, spec: Spec, layouts: Sequence[str], precisions: Sequence[str], clock: Clock) -> Iterator[Row]:
    model = seeded_model(spec)
    for target in TARGETS:
        here = targets.get(target).availability()
        for layout in layouts:
            for precision in precisions:
                row = Row(part, f"{target}, {layout}", precision, spec.branches, spec.depth)
                refused = targets.get(target).dialect.refuses.get(precision, "")
                if reason := here.missing or here.idle or refused or ("no time left" if clock.over else ""):
                    yield skipped(row, reason)
                    continue
                with tempfile.TemporaryDirectory() as folder:
                    try:
                        run, told = opened(target, model, layout, precision, Path(folder))
                        memory = told.inspection.memory_bytes if told and told.inspection else None
                        for one in measured(dataclasses.replace(row, memory_bytes=memory), model, run):
                            yield dataclasses.replace(
                                one, note=run.without_graphs if isinstance(run, EngineSession) else ""
                            )
                    except ParaexportError as error:
                        yield dataclasses.replace(row, passed=False, note=str(error))


def pytorch(part: str, spec: Spec, clock: Clock) -> Iterator[Row]:
    """Eager, compiled, and captured in a CUDA graph by torch.compile, in fp16."""
    import torch

    contestants = {"torch eager": None, "torch.compile": "default", "torch.compile, CUDA graphs": "reduce-overhead"}
    for name, mode in contestants.items():
        row = Row(part, name, "fp16", spec.branches, spec.depth, note="weights and activations all in half")
        if not torch.cuda.is_available() or clock.over:
            yield skipped(row, "no time left" if torch.cuda.is_available() else "PyTorch has no CUDA here")
            continue
        model = seeded_model(spec)
        on_gpu: Callable[[torch.Tensor], torch.Tensor] = seeded_model(spec).half().cuda()
        if mode is not None:
            on_gpu = torch.compile(on_gpu, mode=mode)

        def run(
            images: NDArray[np.float32], on_gpu: Callable[[torch.Tensor], torch.Tensor] = on_gpu
        ) -> NDArray[np.float32]:
            with torch.inference_mode():
                return np.asarray(on_gpu(torch.from_numpy(images).cuda().half()).float().cpu().numpy())

        yield from measured(row, model, run)


def skipped(row: Row, reason: str) -> Row:
    return dataclasses.replace(row, note=f"skipped: {reason}")


def rows(clock: Clock) -> Iterator[Row]:
    yield from engines("parity", released(4, DEPTH, "cls"), OURS, PRECISIONS, clock)
    for branches in BRANCHES:
        spec = released(branches, DEPTH, "cls")
        yield from engines("branches", spec, ("stacked", "folded"), ("fp16",), clock)
        yield from pytorch("branches", spec, clock)
        serial = released(1, branches * DEPTH, "cls")
        yield from engines("serial network of equal depth", serial, ("stacked",), ("fp16",), clock)


def write(folder: Path, found: Sequence[Row], where: machine.Machine) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = [field.name for field in dataclasses.fields(Row)]
    with (folder / "gpu.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([names, *(dataclasses.astuple(row) for row in found)])
    lines = [names, ["-"] * len(names), *([text(value) for value in dataclasses.astuple(row)] for row in found)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    page = f"# On a GPU: {find_device()}\n\n`make gpu-check`. {where.line()}.\n\n{table}\n"
    (folder / "gpu.md").write_text(page, encoding="utf-8")


def text(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


@click.command()
@click.option("-o", "--output", type=click.Path(path_type=Path, file_okay=False), required=True)
@click.option("--seconds", type=click.FloatRange(min=0), default=SECONDS, show_default=True)
def main(*, output: Path, seconds: float) -> None:
    clock, where, found = Clock(seconds), machine.describe(), []
    for row in rows(clock):
        found.append(row)
        shown = f"{row.latency_ms:.3g} ms" if row.latency_ms is not None else row.note
        click.echo(f"{row.part}: {row.contestant}, {row.precision}, L = {row.branches}, batch {row.batch}: {shown}")
        write(output, found, where)
    if any(row.passed is False for row in found):
        raise click.exceptions.Exit(1)
    if not any(row.passed for row in found):
        click.echo(f"nothing could run: {find_device()}", err=True)
        raise click.exceptions.Exit(3)


if __name__ == "__main__":
    main()
