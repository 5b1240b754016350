"""The GPU side of `benchmarks.paper.latency`: three ways to run the branches at the same time in PyTorch.

This module has never run on a GPU. `tests/benchmarks/test_paper.py` checks on a CPU that `StackedBranches` answers as
the model does.

The ways: eager; a CUDA stream for each branch; and stacked weights, so that L small products become one, compiled into
a CUDA graph. Latency is that between two CUDA events.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from benchmarks.gpu.torch_peers import compile_module
from benchmarks.harness.subjects import released, seeded_model
from benchmarks.paper.reporting import print_progress
from paraexport.errors import MissingError
from paraexport.model.reference import ParaFormer

if TYPE_CHECKING:
    from benchmarks.paper.latency import Run

Call = Callable[[Tensor], Tensor]
WARM_UP_CALLS, ROUNDS, CALLS = 20, 9, 50


class StackedBranches(nn.Module):
    """The same function as a ParaFormer, with the weights of all branches stacked: `torch.func.vmap` over L."""

    def __init__(self, model: ParaFormer) -> None:
        super().__init__()
        self.model = model
        parameters, _ = torch.func.stack_module_state(list(model.branches))
        self.names = list(parameters)
        self.stacked = nn.ParameterList(
            nn.Parameter(tensor.detach(), requires_grad=False) for tensor in parameters.values()
        )

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.model.embedding(images)

        def run(weights: dict[str, Tensor]) -> Tensor:
            return torch.func.functional_call(self.model.branches[0], weights, (tokens,))

        outputs = torch.func.vmap(run)(dict(zip(self.names, self.stacked, strict=True)))
        return self.model.classify(outputs.sum(0))


def on_streams(model: ParaFormer) -> Call:
    """A CUDA stream for each branch. The sum waits for all of them."""
    streams = [torch.cuda.Stream() for _ in model.branches]  # type: ignore[no-untyped-call]

    def run(images: Tensor) -> Tensor:
        tokens = model.embedding(images)
        current = torch.cuda.current_stream()
        outputs = []
        for branch, stream in zip(model.branches, streams, strict=True):
            stream.wait_stream(current)
            with torch.cuda.stream(stream):
                outputs.append(branch(tokens))
        for stream, output in zip(streams, outputs, strict=True):
            current.wait_stream(stream)
            output.record_stream(current)
        return model.classify(model.sum(*outputs))

    return run


WAYS: dict[str, Callable[[ParaFormer], Call]] = {
    "eager": lambda model: model,
    "streams": on_streams,
    "stacked, compiled": lambda model: compile_module(StackedBranches(model), mode="reduce-overhead"),
}


def settings() -> str:
    return f"{ROUNDS} rounds of {CALLS} calls, between CUDA events; all ways of a model in turns"


def measure(shapes: Sequence[tuple[int, int]], batches: Sequence[int], *, quick: bool) -> list[Run]:
    """Time every way for every shape and batch.

    Raises:
        MissingError: PyTorch sees no GPU.
    """
    from benchmarks.paper.latency import Run

    if not torch.cuda.is_available():
        raise MissingError("--device cuda needs a GPU and a PyTorch with CUDA", remedy="leave out --device")
    rounds, calls = (2, 3) if quick else (ROUNDS, CALLS)
    runs = []
    for branches, depth in shapes:
        print_progress(f"L = {branches}, M = {depth}")
        model = seeded_model(released(branches, depth, "cls")).half().cuda()
        for batch in batches:
            images = torch.randn(batch, 3, 128, 128, device="cuda", dtype=torch.float16)
            ways = {name: make(model) for name, make in WAYS.items()}
            medians: dict[str, list[float]] = {name: [] for name in ways}
            fastest = dict.fromkeys(ways, math.inf)
            with torch.no_grad():
                for run in ways.values():
                    for _ in range(WARM_UP_CALLS):
                        run(images)
                for _ in range(rounds):
                    for name, run in ways.items():
                        latencies_ms = [call_ms(run, images) for _ in range(calls)]
                        medians[name].append(statistics.median(latencies_ms))
                        fastest[name] = min(fastest[name], *latencies_ms)
            for name, values in medians.items():
                first, middle, third = quartiles(values)
                runs.append(Run(branches, depth, batch, name, middle, first, third, fastest[name]))
    return runs


def quartiles(values: Sequence[float]) -> list[float]:
    return statistics.quantiles(values, n=4, method="inclusive")


def call_ms(run: Call, images: Tensor) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    start.record()
    run(images)
    end.record()
    end.synchronize()
    return start.elapsed_time(end)
