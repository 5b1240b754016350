"""Where a graph runs. A target says whether it is available here and opens sessions; `get` finds it by its name."""

from __future__ import annotations

from paraexport.errors import MissingError
from paraexport.targets.folder import Folder
from paraexport.targets.openvino import OpenVino
from paraexport.targets.ort.provider import PROVIDERS
from paraexport.targets.ort.target import OnnxRuntime
from paraexport.targets.target import Availability, Compiler, Dialect, Session, Target, Workload
from paraexport.targets.trt.flavour import RTX, TENSORRT
from paraexport.targets.trt.target import TensorRT

__all__ = ["DEFAULT", "TARGETS", "Availability", "Compiler", "Dialect", "Session", "Target", "Workload"]

ONNX_RUNTIME = tuple(map(OnnxRuntime, PROVIDERS.values()))
EVERY: tuple[Target, ...] = (*ONNX_RUNTIME, OpenVino(), TensorRT(TENSORRT), TensorRT(RTX))
TARGETS = {one.name: one for one in EVERY}
DEFAULT = "onnxruntime"
"""Runs everywhere that Python does."""


def get(name: str) -> Target:
    """The target called `name`, whether or not it is available here.

    Raises:
        MissingError: this version knows no such target.
    """
    if name not in TARGETS:
        known = ", ".join(TARGETS)
        raise MissingError("unknown target", expected=f"one of {known}", got=name, remedy="update paraexport")
    return TARGETS[name]


def compiler(name: str) -> Compiler | None:
    """The target called `name` where it compiles; None where it runs `model.onnx` as it is."""
    target = get(name)
    return target if isinstance(target, Compiler) else None


def engine_options(name: str) -> frozenset[str]:
    """The fields of `EngineOptions` that it takes."""
    found = compiler(name)
    return frozenset() if found is None else found.engine_options


def optima(name: str, folder: Folder) -> tuple[int, ...]:
    """The batches that the engine in `folder` has kernels for; none where the target runs `model.onnx` as it is."""
    found = compiler(name)
    return () if found is None else found.optima(folder)


def devices(*names: str) -> list[str]:
    """What each of the targets, by default all, that compile finds here to compile for."""
    return [found.here() for name in names or TARGETS if (found := compiler(name))]


def require(name: str) -> Target:
    """The target called `name`.

    Raises:
        MissingError: something that it needs is not on this machine.
    """
    target = get(name)
    here = target.availability()
    if here.version is None:
        raise MissingError(here.missing, where=f"target {name}", remedy=here.remedy)
    return target
