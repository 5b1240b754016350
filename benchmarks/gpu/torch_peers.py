"""PyTorch as a peer of the engines of `benchmarks.gpu.check`: eager, compiled, and compiled into CUDA graphs."""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu.budget import TimeBudget
from benchmarks.gpu.measure import measure_batches
from benchmarks.gpu.rows import Row, describe_error, skipped
from benchmarks.harness.prepared import Prepared
from benchmarks.harness.subjects import seeded_model

if TYPE_CHECKING:
    import torch

MODES: Mapping[str, str | None] = {
    "torch eager": None,
    "torch.compile": "default",
    "torch.compile, CUDA graphs": "reduce-overhead",
}
"""By contestant, the mode of torch.compile, which records the CUDA graphs itself; None for eager."""
Module = Callable[["torch.Tensor"], "torch.Tensor"]


def rows(part: str, prepared: Prepared, budget: TimeBudget) -> Iterator[Row]:
    """Every contestant in fp16. A peer fails no check, whatever its error, because checks are for our engines."""
    import torch

    spec = prepared.spec
    for name, mode in MODES.items():
        row = Row(part, name, "fp16", spec.branches, spec.depth, note="all weights and activations in fp16")
        if reason := budget.refusal(name) if torch.cuda.is_available() else "PyTorch has no CUDA here":
            yield skipped(row, reason)
            continue
        with budget.step(name):
            try:
                measured = measure(row, prepared, mode)
            except Exception as error:  # a peer that fails is a result, whatever it raises
                measured = [dataclasses.replace(row, note=describe_error(error))]
        yield from (dataclasses.replace(peer_row, passed=None) for peer_row in measured)


def measure(row: Row, prepared: Prepared, mode: str | None) -> list[Row]:
    import torch

    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    model: Module = seeded_model(prepared.spec).half().cuda()
    if mode is not None:
        model = compile_module(model, mode=mode)

    def run(images: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return np.asarray(model(torch.from_numpy(images).cuda().half()).float().cpu().numpy())

    measured = [*measure_batches(row, prepared, run)]
    return [dataclasses.replace(batch_row, used_bytes=torch.cuda.max_memory_allocated()) for batch_row in measured]


def compile_module(model: Module, **settings: Any) -> Module:
    """Compile a model for each batch by itself.

    torch.compile counts compilations of one function over all models. After 8 of them it runs the function without
    compiling it. A reset and `fullgraph` prevent that: a model that does not compile raises an error.
    """
    import torch

    torch._dynamo.reset()
    return torch.compile(model, dynamic=False, fullgraph=True, **settings)
