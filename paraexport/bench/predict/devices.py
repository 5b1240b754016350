"""The table of GPUs for `--predict`. Every number has a source, or says that it is an assumption."""

from __future__ import annotations

import math
from collections.abc import Mapping

from paraexport.bench.predict.latency import Device, Link
from paraexport.errors import InputError

T, G = 1e12, 1e9
CPU = "cpu"
"""The name of the CPU of this machine. Its ceilings are measured."""

EFFICIENCY, BANDWIDTH_SHARE = 0.8, 0.8
"""Round numbers for all GPUs. `python -m benchmarks.predictions` checks them on published throughput."""
START_S, CALL_S = 2e-6, 10e-6
SLOW_START_S = 2 * START_S

CHECKED = (
    "round number that fits the throughput of ViTs on an RTX 4090 in huggingface/pytorch-image-models, results/; "
    "checked on an RTX 5090; see benchmarks/results/predictions.md"
)
STARTS = (
    "assumption for kernels in a CUDA graph. https://developer.nvidia.com/blog/cuda-graphs/ reports 0.5 µs between "
    "kernels of 2.9 µs on a V100; a kernel with hardly any work takes 1 to 2 µs as well"
)
CALLS = "assumption: start of a CUDA graph, copy of the logits, and waiting for its end"
LINK_SHARE = "370 GB/s of 450 in one direction, https://github.com/NVIDIA/nccl/issues/1442"
STEPS = "NCCL's own model: 6.6 µs and 0.6 µs a step over NVLink, 1.0 µs over PCIe, https://github.com/NVIDIA/nccl/issues/1334"
GEN4, GEN5 = 0.8 * 32 * G, 0.8 * 64 * G
HOST = (
    "PCIe with 16 lanes, one direction: 32 GB/s in generation 4, 64 GB/s in generation 5; 80 % of it is an assumption"
)


def gpu(
    name: str,
    title: str,
    peaks: tuple[float, float, float],
    memory: tuple[float, float],
    source: str,
    *,
    host_bandwidth: float = math.inf,
    nvlink: float | None = None,
    start_s: float = START_S,
) -> Device:
    """A row of the table.

    Args:
        peaks: T operations a second without sparsity: in fp32 without tensor cores, because TF32 is off; in fp16 and
            bf16 with sums in float32; in int8.
        memory: bandwidth in GB/s, and size in GB.
        source: of these numbers.
        host_bandwidth: from the host, in bytes a second; infinite if they share their memory.
        nvlink: bandwidth in one direction, in bytes a second; None for PCIe, or for no second device.
    """
    fp32, half, int8 = peaks
    gigabytes_s, memory_gb = memory
    link = None
    if nvlink is not None:
        link = Link(nvlink, 6.6e-6, 0.6e-6, f"{LINK_SHARE}, the same share for other GPUs; {STEPS}")
    elif host_bandwidth < math.inf:
        link = Link(host_bandwidth, 6.6e-6, 1.0e-6, f"{HOST}; {STEPS}")
    starts = (
        STARTS if start_s == START_S else f"assumption: twice that of the other GPUs, because of the clock; {STARTS}"
    )
    sources = dict.fromkeys(("peaks", "bandwidth", "memory_bytes"), source)
    sources |= dict.fromkeys(("efficiency", "bandwidth_share"), CHECKED)
    sources |= {"start_s": starts, "call_s": CALLS}
    if host_bandwidth < math.inf:
        sources["host_bandwidth"] = HOST
    if link is not None:
        sources["link"] = link.source
    return Device(
        name,
        title,
        {"fp32": fp32 * T, "fp16": half * T, "bf16": half * T, "int8": int8 * T},
        gigabytes_s * G,
        EFFICIENCY,
        BANDWIDTH_SHARE,
        start_s,
        call_s=CALL_S,
        host_bandwidth=host_bandwidth,
        memory_bytes=memory_gb * G,
        link=link,
        sources=sources,
    )


NVLINK_4, NVLINK_3 = 370 * G, 370 / 450 * 300 * G
HALF = "half of the peaks with sparsity"
ADA = "NVIDIA Ada GPU Architecture, whitepaper, appendix A"
BLACKWELL = "NVIDIA RTX Blackwell GPU Architecture, whitepaper, appendix A"
DEVICES: Mapping[str, Device] = {
    device.name: device
    for device in (
        gpu("h200", "H200 SXM", (67, 989.5, 1979), (4800, 141), f"NVIDIA H200 datasheet; {HALF}",
            host_bandwidth=GEN5, nvlink=NVLINK_4),
        gpu("h100", "H100 SXM", (67, 989.5, 1979), (3350, 80), f"NVIDIA H100 datasheet; {HALF}",
            host_bandwidth=GEN5, nvlink=NVLINK_4),
        gpu("a100", "A100 80 GB SXM", (19.5, 312, 624), (2039, 80), "NVIDIA A100 datasheet",
            host_bandwidth=GEN4, nvlink=NVLINK_3),
        gpu("l4", "L4", (30.3, 121, 242.5), (300, 24), f"NVIDIA L4 datasheet; {HALF}",
            host_bandwidth=GEN4),
        gpu("rtx4090", "GeForce RTX 4090", (82.6, 165.2, 660.6), (1008, 24), ADA, host_bandwidth=GEN4),
        gpu("rtx5090", "GeForce RTX 5090", (104.8, 209.5, 838), (1792, 32), BLACKWELL, host_bandwidth=GEN5),
        gpu("orin", "Jetson AGX Orin 64 GB", (5.3, 42.5, 85), (204.8, 64),
            "NVIDIA Jetson AGX Orin Series, technical brief: GPU with 5.3 TFLOPS and 170 TOPS with sparsity",
            start_s=SLOW_START_S),
    )
}  # fmt: skip
"""By name. Boost clocks hold only as long as power and cooling allow."""
NAMES = (*DEVICES, CPU)


def parse_devices(text: str) -> tuple[str, ...]:
    """`h200,orin` -> the names, each once.

    Raises:
        InputError: a device is not in the table.
    """
    names = tuple(dict.fromkeys(name.strip().lower() for name in text.split(",")))
    if unknown := [name for name in names if name not in NAMES]:
        got = ", ".join(name or "an empty name" for name in unknown)
        raise InputError("unknown device", where="--predict", expected=f"one or more of {', '.join(NAMES)}", got=got)
    return names
