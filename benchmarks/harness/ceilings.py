"""The ceilings of a device, measured with PyTorch: operations a second of a large product, bytes a second of a copy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from paraexport.timing.calls import time_calls

PRECISIONS = ("fp32", "fp16", "bf16", "int8")
SMALLEST, LARGEST = 256, 8192
"""Rows and columns of the matrices. Sizes double until a product takes `LONG_S` and the rate grows no more."""
LONG_S, GROWTH, CALLS = 0.02, 1.5, 5
COPIED_BYTES = 2**28


@dataclass(frozen=True)
class Ceilings:
    device: str
    peaks: Mapping[str, float]
    """Operations a second, by precision. A multiply-add is two operations."""
    bandwidth: float
    """Bytes a second, read and written together."""
    missing: Mapping[str, str]
    """Why a precision has no peak."""

    def table(self) -> str:
        rows = [
            f"| {precision}, one large product | {peak / 1e12:.4g} T operations/s |"
            for precision, peak in self.peaks.items()
        ]
        rows += [f"| {precision} | not run: {reason} |" for precision, reason in self.missing.items()]
        copied = f"| one large copy, read and written | {self.bandwidth / 1e9:.4g} GB/s |"
        return "\n".join([f"| ceiling of {self.device} | |", "|-|-|", *rows, copied])


def measure(device: str, threads: int | None = None) -> Ceilings:
    """Measure `cpu` or `cuda`, as PyTorch names them. The fastest of several runs counts; TF32 is off."""
    import torch

    before, tf32 = torch.get_num_threads(), torch.backends.cuda.matmul.allow_tf32
    torch.set_num_threads(threads or before)
    torch.backends.cuda.matmul.allow_tf32 = False
    peaks, missing = {}, {}
    try:
        for precision in PRECISIONS:
            try:
                peaks[precision] = peak(precision, device)
            except (RuntimeError, AttributeError, NotImplementedError) as error:
                missing[precision] = " ".join(str(error).split())[:120]
        name = torch.cuda.get_device_name() if device == "cuda" else device
        return Ceilings(name, peaks, bandwidth(device), missing)
    finally:
        torch.set_num_threads(before)
        torch.backends.cuda.matmul.allow_tf32 = tf32


def peak(precision: str, device: str) -> float:
    """Operations a second of a product of two square matrices, at the size with the highest rate."""
    best, size = 0.0, SMALLEST
    while size <= LARGEST:
        seconds = shortest_s(product(precision, device, size), device)
        rate = 2 * size**3 / seconds
        # On a busy machine even a small product can take long. Then the rate still grows with the size.
        if seconds >= LONG_S and rate < GROWTH * best:
            return max(best, rate)
        best, size = max(best, rate), 2 * size
    return best


def product(precision: str, device: str, size: int) -> Callable[[], object]:
    import torch

    if precision == "int8":
        left, right = (torch.randint(-127, 128, (size, size), dtype=torch.int8, device=device) for _ in range(2))
        # PyTorch has no public product of integers. On CUDA, this one expects the second matrix column by column.
        return lambda: torch._int_mm(left, right.t())
    dtype = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[precision]
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return lambda: left @ right


def bandwidth(device: str) -> float:
    import torch

    source = torch.ones(COPIED_BYTES, dtype=torch.uint8, device=device)
    copy = torch.empty_like(source)
    return 2 * COPIED_BYTES / shortest_s(lambda: copy.copy_(source), device)


def shortest_s(run: Callable[[], object], device: str) -> float:
    import torch

    def run_and_wait() -> None:
        run()
        if device == "cuda":
            torch.cuda.synchronize()

    run_and_wait()
    return min(time_calls(run_and_wait, at_least=CALLS)) / 1e3
