"""The machine and the libraries of a measurement."""

from __future__ import annotations

import datetime
import os
import platform
from dataclasses import dataclass
from pathlib import Path

from paraexport.system.extras import installed_versions

LIBRARIES = (
    "torch", "onnx", "onnxruntime", "onnxruntime-gpu", "onnxruntime-ep-nv-tensorrt-rtx", "openvino", "tensorrt",
    "tensorrt-cu12", "tensorrt-cu13", "tensorrt-rtx", "nncf", "onnx-ir", "onnxscript", "numpy",
)  # fmt: skip
CPU_FLAGS = ("avx2", "avx512f", "avx512_vnni", "amx_tile")


@dataclass(frozen=True)
class Machine:
    """Every page of results names it."""

    date: str
    """UTC, ISO 8601."""
    cpu: str
    cpus: int
    """Logical CPUs that this process may use."""
    instructions: tuple[str, ...]
    memory_gib: float
    system: str
    python: str
    load: float | None
    """Mean number of running processes in the minute before the measurement; 0 means an idle machine."""
    libraries: dict[str, str]

    def line(self) -> str:
        """Everything on one line."""
        libraries = ", ".join(f"{name} {version}" for name, version in self.libraries.items())
        load = "unknown" if self.load is None else f"{self.load:.1f}"
        return (
            f"{self.cpu}, {self.cpus} CPUs ({', '.join(self.instructions)}), {self.memory_gib:.0f} GiB, {self.system}, "
            f"Python {self.python}, {libraries}; {self.date}, load {load}"
        )


def describe() -> Machine:
    """Describe this machine. What the system does not report is left out, or called unknown."""
    cpu = cpu_facts()
    flags = cpu.get("flags", "").split()
    return Machine(
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        cpu=cpu.get("model name", platform.processor() or platform.machine()),
        cpus=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        instructions=tuple(flag for flag in CPU_FLAGS if flag in flags),
        memory_gib=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30,
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        libraries=installed_versions(LIBRARIES),
    )


def cpu_facts() -> dict[str, str]:
    """The first processor in /proc/cpuinfo; empty if there is no such file."""
    file = Path("/proc/cpuinfo")
    if not file.exists():
        return {}
    first = file.read_text(encoding="utf-8").partition("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}
