"""PyTorch on the GPU beside the engines of `benchmarks.gpu.check`: eager, compiled, and compiled into CUDA graphs."""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu.measure import Clock, measured
from benchmarks.gpu.rows import Row, skipped, told
from benchmarks.harness.prepared import Prepared
from benchmarks.harness.subjects import seeded_model

if TYPE_CHECKING:
    import torch

MODES: Mapping[str, str | None] = {
    "torch eager": None,
    "torch.compile": "default",
    "torch.compile, CUDA graphs": "reduce-overhead",
}
"""Contestant -> the mode of torch.compile, which records the CUDA graphs itself; None for eager."""
Module = Callable[["torch.Tensor"], "torch.Tensor"]


def rows(part: str, prepared: Prepared, clock: Clock) -> Iterator[Row]:
    """Each contestant, in fp16. It fails no check, however far it is off: these are of our engines."""
    import torch

    spec = prepared.spec
    for name, mode in MODES.items():
        row = Row(part, name, "fp16", spec.branches, spec.depth, note="weights and activations all in half")
        if reason := clock.refusal(name) if torch.cuda.is_available() else "PyTorch has no CUDA here":
            yield skipped(row, reason)
            continue
        with clock.step(name):
            try:
                found = timed(row, prepared, mode)
            except Exception as error:  # whatever a peer raises is its result
                found = [dataclasses.replace(row, note=told(error))]
        yield from (dataclasses.replace(one, passed=None) for one in found)


def timed(row: Row, prepared: Prepared, mode: str | None) -> list[Row]:
    import torch

    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    model: Module = seeded_model(prepared.spec).half().cuda()
    if mode is not None:
        model = compiled(model, mode=mode)

    def run(images: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return np.asarray(model(torch.from_numpy(images).cuda().half()).float().cpu().numpy())

    found = [*measured(row, prepared, run)]
    return [dataclasses.replace(one, used_bytes=torch.cuda.max_memory_allocated()) for one in found]


def compiled(model: Module, **settings: Any) -> Module:
    """The model compiled for each batch by itself, or an error: torch.compile would run what it does not compile.

    It counts compilations of one function over all models, and after 8 runs every later one as it is.
    """
    import torch

    torch._dynamo.reset()
    return torch.compile(model, dynamic=False, fullgraph=True, **settings)
