"""Loads model.engine: everything that the threads of a session share.

It follows NVIDIA's documents, and has not been run on a GPU yet (docs/tensorrt.md).
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from paraexport.errors import BundleError, MissingError
from paraexport.findings.graphs import TensorInfo
from paraexport.targets.compilation import EngineInfo
from paraexport.targets.folder import MODEL, Folder
from paraexport.targets.trt import info
from paraexport.targets.trt.device import Driver, retain_primary
from paraexport.targets.trt.flavour import Flavour
from paraexport.targets.trt.logger import logger_of, old_driver_error, start
from paraexport.targets.trt.network import describe_fault

GRAPHS_OFF = "--engine cuda_graphs=false"


class LoadedEngine:
    """One engine. It holds no reference to the threads that run it, so it is freed with the last of them.

    Raises:
        MissingError: TensorRT cannot start, the driver is too old, or the GPU has no memory left.
        BundleError: TensorRT cannot read the engine, or the weights do not fit it.
    """

    def __init__(self, flavour: Flavour, folder: Folder, engine_info: EngineInfo) -> None:
        self.flavour, self.info = flavour, engine_info
        self.trt = trt = flavour.load()
        self.without_graphs = "" if engine_info.options.cuda_graphs else GRAPHS_OFF
        """Why runs are not recorded as CUDA graphs; empty if they are."""
        self.driver, self.logger = Driver(), logger_of(trt)
        self.primary = retain_primary(self.driver)
        self.runtime = start(trt.Runtime, self.logger)
        if engine_info.options.version_compatible:
            self.runtime.engine_host_code_allowed = True
        self.engine = self.runtime.deserialize_cuda_engine(folder.read(info.ENGINE))
        if self.engine is None:
            raise unreadable_engine(folder.path, self.logger.error_text())
        if engine_info.options.stripped:
            self.refit(folder)
        names = [self.engine.get_tensor_name(index) for index in range(self.engine.num_io_tensors)]
        modes = {name: self.engine.get_tensor_mode(name) for name in names}
        self.inputs, self.outputs = (
            tuple(self.tensor(name) for name in names if modes[name] == mode)
            for mode in (trt.TensorIOMode.INPUT, trt.TensorIOMode.OUTPUT)
        )
        self.input, self.output = self.inputs[0].name, self.outputs[0].name
        self.shapes = [tuple(self.engine.get_tensor_shape(name))[1:] for name in (self.input, self.output)]
        """The shapes of one image and of its logits."""
        self.runtime_cache = flavour.new_runtime_cache(self.engine)

    def tensor(self, name: str) -> TensorInfo:
        """Name, type and shape of an input or output; a free axis is "?"."""
        shape = tuple("?" if size < 0 else int(size) for size in self.engine.get_tensor_shape(name))
        return TensorInfo(name, np.dtype(self.trt.nptype(self.engine.get_tensor_dtype(name))).name, shape)

    def refit(self, folder: Folder) -> None:
        """Give a stripped engine the weights of its ONNX file."""
        refitter = self.trt.Refitter(self.engine, self.logger)
        parser = self.trt.OnnxParserRefitter(refitter, self.logger)
        if not parser.refit_from_file(str(folder.at(MODEL))) or not refitter.refit_cuda_engine():
            faults = [describe_fault(parser.get_error(index)) for index in range(parser.num_errors)]
            got = ("; ".join(faults) or self.logger.error_text())[:300]
            where, remedy = folder.path / MODEL, "build the bundle again"
            raise BundleError("the weights do not fit the engine", where=where, got=got, remedy=remedy)

    def new_context(self, *, recording: bool) -> Any:
        """An execution context that uses its worker's memory. With `recording` it runs one batch size as a graph."""
        context = self.flavour.new_context(self.trt, self.engine, self.runtime_cache, recording=recording)
        if context is None:
            got, remedy = self.logger.error_text()[:300], "free memory of the GPU, or build with a lower --max-batch"
            raise MissingError("TensorRT cannot create an execution context", where="the GPU", got=got, remedy=remedy)
        return context

    def refuse_graphs(self, reason: str) -> None:
        """Run kernel by kernel from now on, and warn why."""
        self.without_graphs = reason
        warnings.warn(f"runs are not recorded as CUDA graphs, which is slower: {reason}", RuntimeWarning, stacklevel=2)


def unreadable_engine(where: object, message: str) -> BundleError | MissingError:
    """The error for an engine that TensorRT did not open, although version and device are right."""
    if error := old_driver_error(message, where):
        return error
    got = message[:300]
    if "memory" in message.lower():
        remedy = "free memory of the GPU, or build with a lower --max-batch"
        return MissingError("the GPU has no memory left", where=where, got=got, remedy=remedy)
    return BundleError("TensorRT cannot read the engine", where=where, got=got, remedy="build the bundle again")
