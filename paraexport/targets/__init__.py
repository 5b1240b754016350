"""Runs graphs on targets. A target reports whether it is available, and opens sessions; `get` finds it by name."""

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
ALL_TARGETS: tuple[Target, ...] = (*ONNX_RUNTIME, OpenVino(), TensorRT(TENSORRT), TensorRT(RTX))
TARGETS = {target.name: target for target in ALL_TARGETS}
DEFAULT = "onnxruntime"
"""It runs wherever Python runs."""


def get(name: str) -> Target:
    """The target called `name`, even if it is not available here.

    Raises:
        MissingError: this version knows no such target.
    """
    if name not in TARGETS:
        known = ", ".join(TARGETS)
        remedy = "correct the name, or update paraexport"
        raise MissingError("unknown target", expected=f"one of {known}", got=name, remedy=remedy)
    return TARGETS[name]


def compiler(name: str) -> Compiler | None:
    """The target called `name` if it compiles engines; None if it runs `model.onnx` as it is."""
    target = get(name)
    return target if isinstance(target, Compiler) else None


def engine_options(name: str) -> frozenset[str]:
    """The fields of `EngineOptions` that the target accepts."""
    target = compiler(name)
    return frozenset() if target is None else target.engine_options


def optima(name: str, folder: Folder) -> tuple[int, ...]:
    """The batch sizes that the engine in `folder` is optimised for; none if the target runs `model.onnx` as it is."""
    target = compiler(name)
    return () if target is None else target.optima(folder)


def devices(*names: str) -> list[str]:
    """The device that each compiling target would compile for, in words; by default for all targets."""
    return [target.here() for name in names or TARGETS if (target := compiler(name))]


def require(name: str) -> Target:
    """The target called `name`.

    Raises:
        MissingError: this machine lacks something that the target needs.
    """
    target = get(name)
    availability = target.availability()
    if availability.version is None:
        raise MissingError(availability.missing, where=f"target {name}", remedy=availability.remedy)
    return target
