"""The numbers of the formula for CPU runtimes, fitted by `python -m benchmarks.predictions`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from paraexport.bench.ceiling import copy_bytes_per_s, multiply_adds_per_s
from paraexport.bench.predict.devices import CPU
from paraexport.bench.predict.latency import Device
from paraexport.errors import InputError
from paraexport.system.cpus import usable_cpus


@dataclass(frozen=True)
class Runtime:
    """The numbers of one runtime. All were fitted on one machine, an AMD EPYC with 2 CPUs and AVX-512."""

    efficiency: float
    """The share of one large float32 product's rate that products reach, without the time for their bytes."""
    start_s: float
    """The time of an operator beyond its arithmetic and bytes."""
    bandwidth: float
    """Bytes a second for weights and activations, on that machine."""
    int8_speed: float
    """Peak in int8 divided by that in float32."""
    quantised_s: float
    """More time for a product in int8, with several threads. One thread has to wait for no other."""


RUNTIMES: Mapping[str, Runtime] = {
    "onnxruntime": Runtime(0.738, 1.1e-6, 52.5e9, 3.1, 22.1e-6),
    "openvino": Runtime(0.935, 2.68e-6, 94.4e9, 2.75, 27.5e-6),
}
"""By the name of the target. `python -m benchmarks.predictions` fails if its fit gives other numbers."""
SOURCE = "fitted on benchmarks/results/ by `python -m benchmarks.predictions`; see benchmarks/results/predictions.md"


def runtime(target: str) -> Runtime:
    """The numbers of the runtime of a target.

    Raises:
        InputError: it was never fitted.
    """
    if (numbers := RUNTIMES.get(target)) is None:
        expected = f"a bundle for {' or '.join(RUNTIMES)}"
        raise InputError("no prediction for this target on a CPU", where="--predict cpu", expected=expected, got=target)
    return numbers


def cpu(
    numbers: Runtime,
    peak: float,
    bandwidth: float | None = None,
    *,
    threads: int | None = None,
    title: str = "this CPU",
) -> Device:
    """A CPU with a runtime.

    Args:
        numbers: those of the runtime.
        peak: operations a second of one large float32 product.
        bandwidth: bytes a second of a large copy, read and written; None for the machine of the fit.
        threads: of the runtime; None for all CPUs.
        title: for people.
    """
    sources = dict.fromkeys(("efficiency", "bandwidth_share", "start_s", "quantised_s"), SOURCE)
    sources["peaks"] = f"float32: one large product, measured in the same run; int8 relative to it: {SOURCE}"
    sources["bandwidth"] = SOURCE if bandwidth is None else "one large copy, measured in the same run"
    return Device(
        CPU,
        title,
        {"fp32": peak, "int8": numbers.int8_speed * peak},
        numbers.bandwidth if bandwidth is None else bandwidth,
        numbers.efficiency,
        1.0,
        numbers.start_s,
        quantised_s=0.0 if (threads or usable_cpus()) == 1 else numbers.quantised_s,
        overlaps=False,
        sources=sources,
    )


def measured_cpu(target: str, threads: int | None) -> Device:
    """The CPU of this machine. Its ceilings are measured now, which takes a second.

    Raises:
        InputError: they cannot be measured, or the runtime was never fitted.
    """
    numbers = runtime(target)
    rate, copied = multiply_adds_per_s(threads), copy_bytes_per_s()
    if rate is None or copied is None:
        raise InputError("cannot measure the ceilings of this CPU", where="--predict cpu", remedy="check NumPy")
    return cpu(numbers, 2 * rate, copied, threads=threads, title=f"this CPU with {target}")
