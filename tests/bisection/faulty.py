"""Targets that are wrong on purpose: ONNX Runtime with a change to every model that it opens, or compiles."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from paraexport import targets
from paraexport.bundle import Bundle
from paraexport.clock import Progress
from paraexport.compilation import EngineInfo, EngineOptions
from paraexport.targets import Availability, Session, onnxruntime

NAME = "faulty"
DIALECT = onnxruntime.DIALECT
Change = Callable[[onnx.ModelProto], None]


def nothing(_: onnx.ModelProto) -> None:
    """A right runtime."""


change: Change = nothing


def availability() -> Availability:
    return onnxruntime.availability()


def low_products(folder: Path) -> frozenset[str]:
    return onnxruntime.low_products(folder)


def open_session(folder: Path, threads: int | None) -> Session:
    """What is wrong is written beside the model, which stays as it is."""
    model = onnx.load(folder / "model.onnx")
    change(model)
    onnx.save(model, folder / "wrong.onnx")
    try:
        return onnxruntime.OnnxRuntimeSession(folder / "wrong.onnx", threads)
    finally:
        (folder / "wrong.onnx").unlink()


class Compiled:
    """The same for a target that compiles: what runs is `model.engine` alone, and the fault is in there."""

    NAME = "compiled"
    DIALECT = DIALECT
    ENGINE_OPTIONS = frozenset({"tf32"})
    LAYOUT = "folded"

    def __init__(self) -> None:
        self.asked: list[tuple[int, EngineOptions]] = []

    availability = staticmethod(availability)
    low_products = staticmethod(low_products)

    def here(self) -> str:
        return "here"

    def obstacle(self, folder: Path) -> str:
        return "" if (folder / "model.engine").is_file() else "there is no engine"

    def compile_model(self, folder: Path, max_batch: int, wanted: EngineOptions, _progress: Progress) -> EngineInfo:
        model = onnx.load(folder / "model.onnx")
        change(model)
        onnx.save(model, folder / "model.engine")
        self.asked.append((max_batch, wanted))
        return EngineInfo(
            runtime="Compiled", version="1", built_for=(), built_on="", batches=(1, 1, max_batch), options=wanted,
            network_layers=len(model.graph.node), products={}, fused_attention=False, size_bytes=0, inspection=None,
            not_inspected="", warnings=(),
        )  # fmt: skip

    def open_session(self, folder: Path, threads: int | None) -> Session:
        return onnxruntime.OnnxRuntimeSession(folder / "model.engine", threads)


def scaled(name: str, factor: float, index: int | None = None) -> Change:
    """One weight, or the slice `index` of it, times `factor`, where a model has it."""

    def apply(model: onnx.ModelProto) -> None:
        for tensor in model.graph.initializer:
            if tensor.name == name:
                array: NDArray[np.float32] = numpy_helper.to_array(tensor).copy()
                array[slice(None) if index is None else index] *= np.float32(factor)
                tensor.CopyFrom(numpy_helper.from_array(array, name))

    return apply


def install(patch: pytest.MonkeyPatch, fault: Change) -> None:
    patch.setitem(targets.MODULES, NAME, __name__)
    patch.setattr(f"{__name__}.change", fault)


def install_compiled(patch: pytest.MonkeyPatch, fault: Change) -> Compiled:
    found, usual = Compiled(), targets.get
    patch.setattr(f"{__name__}.change", fault)
    patch.setattr(targets, "get", lambda name: found if name == Compiled.NAME else usual(name))
    return found


def on(made: Bundle, target: str) -> Bundle:
    """The bundle for another target, and no file of it changed."""
    return Bundle(made.path, dataclasses.replace(made.manifest, target=target))
