"""The formula: the latency of a list of kernels on a device.

    latency = call + images / host + Σ over kernels of (start + work)

    work = max(arithmetic, memory)         on a GPU, which does both at the same time
    work = arithmetic + memory             on a CPU, where a small product waits for its weights

    arithmetic = 2 · multiply-adds / (peak · efficiency)
    memory = bytes / (bandwidth · share)

Kernels run one after another. A GPU may run branches on several streams at the same time. Then the prediction for the
layouts `branches` and `folded` is too high.

On a CPU the sum makes small products inefficient by themselves: with r rows, a product does r multiply-adds for each
weight that it reads. So its efficiency is that of a large product times r / (r + r₀), where r₀ depends on the device.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from paraexport.graph.kernels import Kernel

ELEMENT_BYTES = {"fp32": 4.0, "fp16": 2.0, "bf16": 2.0}
"""The size of a number. In an int8 model, only the weights of products are smaller."""
INT8_WEIGHT_BYTES = 1.0
IMAGE_BYTES = 4
"""Images come as float32."""


@dataclass(frozen=True)
class Device:
    """The numbers of a device, for the formula of this module."""

    name: str
    """As in `--predict`."""
    title: str
    peaks: Mapping[str, float]
    """Operations a second by precision; a multiply-add is two. On GPUs without sparsity, and for fp32 without TF32."""
    bandwidth: float
    """Bytes a second of the memory."""
    efficiency: float
    """The share of the peak that large products reach."""
    bandwidth_share: float
    """The share of the bandwidth that kernels reach."""
    start_s: float
    """The time between two kernels."""
    quantised_s: float = 0.0
    """More time for each product in int8, to quantise its input."""
    call_s: float = 0.0
    """To start a call, and to wait for its end."""
    host_bandwidth: float = math.inf
    """Bytes a second from the host to the device; infinite if they share their memory."""
    overlaps: bool = True
    """Whether arithmetic and memory work at the same time."""
    memory_bytes: float = math.inf
    link: Link | None = None
    """How several of these devices are connected; None if that is not in the table."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """By field, where its number is from."""


@dataclass(frozen=True)
class Link:
    """The connection between devices of one machine."""

    bandwidth: float
    """Bytes a second in one direction."""
    start_s: float
    """The time to start an exchange among all devices."""
    hop_s: float
    """More time for each step of a ring."""
    source: str


@dataclass(frozen=True)
class Latency:
    """A predicted latency, and its parts. The parts of work count in full, also where they overlap."""

    total_s: float
    arithmetic_s: float
    memory_s: float
    starts_s: float
    """All starts of kernels."""
    transfer_s: float
    """Images from the host."""
    kernels: int

    @property
    def bound(self) -> str:
        """The largest part: `arithmetic`, `memory`, `starts` or `transfer`."""
        parts = {
            "arithmetic": self.arithmetic_s,
            "memory": self.memory_s,
            "starts": self.starts_s,
            "transfer": self.transfer_s,
        }
        return max(parts, key=parts.__getitem__)


def predict(kernels: Iterable[Kernel], device: Device, precision: str, image_values: int = 0) -> Latency:
    """The latency of the kernels of one call, with weights and activations in `precision`.

    Args:
        kernels: those of the whole batch.
        precision: `fp32`, `fp16`, `bf16` or `int8`. In int8, products by weights are int8, everything else float32.
        image_values: numbers in the images of the batch.

    Raises:
        KeyError: the device has no peak for the precision.
    """
    count = 0
    work_s = arithmetic_s = memory_s = starts_s = 0.0
    for kernel in kernels:
        own_arithmetic_s, own_memory_s = arithmetic(kernel, device, precision), memory(kernel, device, precision)
        quantised = precision == "int8" and kernel.weighted
        count += 1
        work_s += (max if device.overlaps else add)(own_arithmetic_s, own_memory_s)
        arithmetic_s += own_arithmetic_s
        memory_s += own_memory_s
        starts_s += device.start_s + (device.quantised_s if quantised else 0.0)
    transfer_s = device.call_s + IMAGE_BYTES * image_values / device.host_bandwidth
    return Latency(transfer_s + starts_s + work_s, arithmetic_s, memory_s, starts_s, transfer_s, count)


def add(left: float, right: float) -> float:
    return left + right


def arithmetic(kernel: Kernel, device: Device, precision: str) -> float:
    """Seconds for the multiply-adds of a kernel."""
    own = "fp32" if precision == "int8" and not kernel.weighted else precision
    return 2 * kernel.multiply_adds / (device.peaks[own] * device.efficiency)


def memory(kernel: Kernel, device: Device, precision: str) -> float:
    """Seconds for the bytes of a kernel: every operand is read once, every result is written once."""
    if precision == "int8":
        weight_bytes = INT8_WEIGHT_BYTES if kernel.weighted else ELEMENT_BYTES["fp32"]
        size_bytes = weight_bytes * kernel.weights + ELEMENT_BYTES["fp32"] * kernel.activations
    else:
        size_bytes = ELEMENT_BYTES[precision] * (kernel.weights + kernel.activations)
    return size_bytes / (device.bandwidth * device.bandwidth_share)


def exchange_s(device: Device, devices: int, size_bytes: float) -> float:
    """Seconds to sum a value of `size_bytes` over several devices of one machine, with the result on all of them.

    A ring takes 2 (n - 1) steps, and every device sends 2 (n - 1) / n of the value.

    Raises:
        ValueError: the table has no link for the device.
    """
    if devices == 1:
        return 0.0
    if (link := device.link) is None:
        raise ValueError(f"no link between several {device.name} is known")
    steps = 2 * (devices - 1)
    return link.start_s + steps * link.hop_s + steps / devices * size_bytes / link.bandwidth
