"""Targets that are wrong on purpose: ONNX Runtime with a change to every model that it opens, or compiles."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from paraexport import targets
from paraexport.bundle import Bundle
from paraexport.targets import Availability, Session, Workload
from paraexport.targets.compilation import EngineInfo, EngineOptions
from paraexport.targets.folder import Folder
from paraexport.targets.ort.provider import CPU
from paraexport.targets.ort.target import OnnxRuntime, OnnxRuntimeSession
from paraexport.targets.profiles import settle
from paraexport.targets.runtime import Runtime
from paraexport.timing.clock import Progress

NAME, COMPILED = "faulty", "compiled"
RIGHT = OnnxRuntime(CPU)
Change = Callable[[onnx.ModelProto], None]


def nothing(_: onnx.ModelProto) -> None:
    """A right runtime."""


class Faulty:
    name: ClassVar = NAME
    dialect: ClassVar = RIGHT.dialect

    def __init__(self, change: Change) -> None:
        self.change = change

    def availability(self) -> Availability:
        return RIGHT.availability()

    def int8_products(self, folder: Folder) -> frozenset[str] | str:
        return RIGHT.int8_products(folder)

    def slow_int8(self) -> str:
        return RIGHT.slow_int8()

    def runtime(self, folder: Folder, workload: Workload, opset: int | None = None) -> Runtime:
        return dataclasses.replace(RIGHT.runtime(folder, workload, opset), library=self.name)

    def open_session(self, folder: Folder, workload: Workload, _runtime: Runtime | None = None) -> Session:
        """What is wrong is written beside the model, which stays as it is."""
        model = self.changed(folder)
        with tempfile.TemporaryDirectory() as work:
            onnx.save(model, Path(work) / "wrong.onnx")
            return OnnxRuntimeSession(CPU, Path(work) / "wrong.onnx", workload, CPU.runtime(workload, None))

    def changed(self, folder: Folder) -> onnx.ModelProto:
        model = onnx.load(folder.at("model.onnx"))
        self.change(model)
        return model


class Compiled(Faulty):
    """The same for a target that compiles: what runs is `model.engine` alone, and the fault is in there."""

    name: ClassVar = COMPILED
    engine_options: ClassVar = frozenset({"tf32"})
    layout: ClassVar = "folded"

    def __init__(self, change: Change) -> None:
        super().__init__(change)
        self.asked: list[tuple[int, EngineOptions]] = []

    def check(self, wanted: EngineOptions) -> None:
        pass

    def here(self) -> str:
        return "here"

    def obstacle(self, folder: Folder) -> str:
        return "" if folder.at("model.engine").is_file() else "there is no engine"

    def optima(self, _folder: Folder) -> tuple[int, ...]:
        return (4,)

    def compile_model(self, folder: Path, max_batch: int, wanted: EngineOptions, _progress: Progress) -> EngineInfo:
        model = self.changed(Folder(folder))
        onnx.save(model, folder / "model.engine")
        self.asked.append((max_batch, wanted))
        return EngineInfo(
            runtime="Compiled", version="1", built_for=(), built_on="", profiles=settle((), max_batch), options=wanted,
            network_layers=len(model.graph.node), products={}, fused_attention=False, size_bytes=0, inspection=None,
            not_inspected="", warnings=(),
        )  # fmt: skip

    def open_session(self, folder: Folder, workload: Workload, _runtime: Runtime | None = None) -> Session:
        return OnnxRuntimeSession(CPU, folder.at("model.engine"), workload, CPU.runtime(workload, None))


def scaled(name: str, factor: float, index: int | None = None) -> Change:
    """One weight, or the slice `index` of it, times `factor`, where a model has it."""

    def apply(model: onnx.ModelProto) -> None:
        for tensor in model.graph.initializer:
            if tensor.name == name:
                array: NDArray[np.float32] = numpy_helper.to_array(tensor).copy()
                array[slice(None) if index is None else index] *= np.float32(factor)
                tensor.CopyFrom(numpy_helper.from_array(array, name))

    return apply


def install(patch: pytest.MonkeyPatch, change: Change) -> None:
    patch.setitem(targets.TARGETS, NAME, Faulty(change))


def install_compiled(patch: pytest.MonkeyPatch, change: Change) -> Compiled:
    target = Compiled(change)
    patch.setitem(targets.TARGETS, COMPILED, target)
    return target


def on(made: Bundle, target: str) -> Bundle:
    """The bundle for another target, and no file of it changed."""
    workload = Workload(image=(), max_batch=1, precision=made.manifest.precision)
    runtime = targets.get(target).runtime(made.files, workload)
    return Bundle(made.path, dataclasses.replace(made.manifest, target=target, runtime=runtime))
