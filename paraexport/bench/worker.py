"""The process of one contestant: opens a bundle, or the checkpoint in PyTorch, and serves `timing.contest`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from paraexport.errors import ParaexportError, on_one_line
from paraexport.pipeline.options import Reading
from paraexport.timing import contest
from paraexport.timing.calls import time_calls

Images = NDArray[np.float32]
Model = Callable[[Images], Images]
STATEMENT = "from paraexport.bench import worker; worker.main(sys.argv[2])"
"""The code of this process. Its argument is a `Job` in JSON."""
BUNDLE, TORCH, COMPILE = "bundle", "torch", "compile"
WARM_UP_S = 0.2


@dataclass(frozen=True)
class Job:
    """What to open and how."""

    kind: str
    """`bundle`, `torch` or `compile`."""
    path: str
    """Of the bundle or checkpoint."""
    images: str
    """`.npy` with images float32 [n, C, H, W], which are repeated to fill a batch."""
    batches: tuple[int, ...]
    threads: int | None = None
    reading: Reading | None = None
    """How to read the checkpoint; None for a bundle."""
    branches: int | None = None
    """Use only the first branches of a bundle; None for all."""


@dataclass(frozen=True)
class Opened:
    """Facts about a contestant, before its calls are timed."""

    load_ms: float
    first_call_ms: float
    """The first call, with one image."""
    peak_memory_bytes: int | None
    """Of the process after calls of every batch size; None if the system does not report it."""
    runtime: str
    """Library and version."""


def main(text: str) -> None:
    job = msgspec.json.decode(text, type=Job)
    try:
        images = np.load(job.images)
        batches = {batch: np.resize(images, (batch, *images.shape[1:])) for batch in job.batches}
        started_s = time.perf_counter()
        model, runtime = OPENERS[job.kind](job)
        loaded_s = time.perf_counter()
        model(images[:1])
        answered_s = time.perf_counter()
        for batch in batches.values():
            time_calls(partial(model, batch), seconds=WARM_UP_S)
    except (ParaexportError, ImportError, MemoryError) as error:
        print(json.dumps({"error": on_one_line(error)}), flush=True)
        return
    facts = Opened(1e3 * (loaded_s - started_s), 1e3 * (answered_s - loaded_s), peak_memory_bytes(), runtime)
    contest.serve(lambda batch: model(batches[batch]), asdict(facts), until_idle=True)


def open_bundle(job: Job) -> tuple[Model, str]:
    from paraexport.engine import load

    engine = load(Path(job.path), threads=job.threads, branches=job.branches)
    runtime = engine.manifest.runtime
    return engine, engine.manifest.target if runtime is None else runtime.library


def open_torch(job: Job) -> tuple[Model, str]:
    return model_of(job, lambda module: module), "torch"


def open_compiled(job: Job) -> tuple[Model, str]:
    import torch

    def compiled(module: torch.nn.Module) -> Any:
        return torch.compile(module, dynamic=False)

    return model_of(job, compiled), "torch.compile"


def model_of(job: Job, prepare: Callable[[Any], Any]) -> Model:
    import torch

    from paraexport.pipeline import reading

    assert job.reading is not None
    if job.threads is not None:
        torch.set_num_threads(job.threads)
    module = prepare(reading.load(Path(job.path), job.reading).original)

    def run(images: Images) -> Images:
        with torch.inference_mode():
            return np.asarray(module(torch.from_numpy(images)))

    return run


def peak_memory_bytes() -> int | None:
    """The highest resident memory of this process so far."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), None)


OPENERS: dict[str, Callable[[Job], tuple[Model, str]]] = {
    BUNDLE: open_bundle,
    TORCH: open_torch,
    COMPILE: open_compiled,
}
