"""model.engine on the GPU: one execution context, one stream and pinned buffers for each thread that calls.

Written to NVIDIA's documents; it has not been run, since there was no GPU to run it on (docs/tensorrt.md).
"""

from __future__ import annotations

import ctypes
import math
import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paraexport.compilation import EngineInfo
from paraexport.errors import BundleError, EngineError, MissingError
from paraexport.targets.trt import info
from paraexport.targets.trt.device import Device, Driver, find_device
from paraexport.targets.trt.flavour import Flavour
from paraexport.targets.trt.logger import logger_of

FLOAT32_BYTES = 4
NON_BLOCKING = 1
"""CU_STREAM_NON_BLOCKING: the stream does not wait for the default one."""


def open_session(flavour: Flavour, folder: Path) -> EngineSession:
    """Open the engine in `folder`.

    Raises:
        MissingError: TensorRT, a GPU, or a GPU or version that the engine was compiled for, is not here.
        BundleError: there is no engine, or TensorRT cannot read it.
    """
    told = info.read(folder)
    trt = flavour.load()
    if found := obstacle(flavour, folder):
        again = f"--target {flavour.name}" if isinstance(find_device(), Device) else "--target onnxruntime"
        raise MissingError(
            f"{info.ENGINE} cannot run here: {found}",
            where=folder,
            remedy=f"run it where it was built for, or build it again for this machine with {again}",
        )
    return EngineSession(trt, folder, told)


def obstacle(flavour: Flavour, folder: Path) -> str:
    """Why the engine in `folder` cannot run here, or nothing."""
    trt, device = flavour.load(), find_device()
    found = info.obstacles(info.read(folder), str(trt.__version__), device, flavour.unusable(trt, device))
    return "; ".join(found)


def nodes_in_int8(flavour: Flavour, folder: Path) -> frozenset[str]:
    """The ONNX nodes that the engine in `folder` computes in int8: as it says on a GPU, else as its plan lists them.

    Raises:
        MissingError: the engine cannot run here, and the plan lists nothing.
    """
    told = info.read(folder)
    found = told.inspection
    if found is None and told.products and obstacle(flavour, folder):
        return frozenset(name for name, types in told.products.items() if "int8" in types)
    if found is None:
        opened = open_session(flavour, folder)
        found = info.inspect(opened.trt, opened.engine)
    return info.nodes_in_int8(found)


class EngineSession:
    """One engine; safe from many threads."""

    def __init__(self, trt: Any, folder: Path, told: EngineInfo) -> None:
        self.trt, self.told = trt, told
        self.driver, self.logger = Driver(), logger_of(trt)
        self.primary = retain_primary(self.driver)
        self.runtime = trt.Runtime(self.logger)
        if told.options.version_compatible:
            self.runtime.engine_host_code_allowed = True
        self.engine = self.runtime.deserialize_cuda_engine((folder / info.ENGINE).read_bytes())
        if self.engine is None:
            raise unreadable(folder, self.logger.told())
        if told.options.stripped:
            self.refit(folder / "model.onnx")
        names = [self.engine.get_tensor_name(index) for index in range(self.engine.num_io_tensors)]
        modes = {name: self.engine.get_tensor_mode(name) for name in names}
        (self.input,) = (name for name, mode in modes.items() if mode == trt.TensorIOMode.INPUT)
        (self.output,) = (name for name, mode in modes.items() if mode == trt.TensorIOMode.OUTPUT)
        self.shapes = [tuple(self.engine.get_tensor_shape(name))[1:] for name in (self.input, self.output)]
        self.local = threading.local()

    def refit(self, model: Path) -> None:
        """Give a stripped engine the weights of its ONNX file."""
        refitter = self.trt.Refitter(self.engine, self.logger)
        parser = self.trt.OnnxParserRefitter(refitter, self.logger)
        if not parser.refit_from_file(str(model)) or not refitter.refit_cuda_engine():
            raise BundleError("the weights do not fit the engine", where=model, got=self.logger.told()[:300])

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 [N, C, H, W] -> float32 [N, classes], N within the profile."""
        fewest, _, most = self.told.batches
        if not fewest <= len(images) <= most:
            raise EngineError("the batch is outside the profile", expected=f"{fewest} to {most}", got=len(images))
        self.driver.call("cuCtxSetCurrent", self.primary)
        worker = getattr(self.local, "worker", None)
        if worker is None:
            worker = self.local.worker = Worker(self)
        return worker.run(images)


def unreadable(folder: Path, said: str) -> BundleError | MissingError:
    """Why TensorRT did not open an engine whose version and device are right."""
    if "driver" in said.lower():
        remedy = "update the driver: the CUDA that TensorRT was built with must not be newer than the driver's"
        return MissingError("the NVIDIA driver is too old", where=folder, got=said[:300], remedy=remedy)
    if "memory" in said.lower():
        remedy = "free memory of the GPU, or build with a lower --max-batch"
        return MissingError("the GPU has no memory left", where=folder, got=said[:300], remedy=remedy)
    return BundleError("TensorRT cannot read the engine", where=folder, got=said[:300], remedy="build it again")


class Worker:
    """What one thread needs: a context, a stream, and memory for the largest batch on both sides."""

    def __init__(self, session: EngineSession) -> None:
        self.session, self.driver = session, session.driver
        self.context = session.engine.create_execution_context()
        if self.context is None:
            raise MissingError("no execution context", where="the GPU", got=session.logger.told()[:300])
        self.stream = ctypes.c_void_p()
        self.driver.call("cuStreamCreate", ctypes.byref(self.stream), NON_BLOCKING)
        sizes = [session.told.batches[2] * math.prod(shape) * FLOAT32_BYTES for shape in session.shapes]
        self.on_gpu = [self.allocate("cuMemAlloc_v2", size) for size in sizes]
        self.on_host = [self.allocate("cuMemAllocHost_v2", size) for size in sizes]
        for name, address in zip((session.input, session.output), self.on_gpu, strict=True):
            self.context.set_tensor_address(name, address.value)

    def allocate(self, function: str, size_bytes: int) -> ctypes.c_void_p:
        address = ctypes.c_void_p()
        self.driver.call(function, ctypes.byref(address), ctypes.c_size_t(size_bytes))
        return address

    def view(self, side: int, batch: int) -> NDArray[np.float32]:
        """The pinned memory as an array of this batch; 0 is the input, 1 the output."""
        shape = (batch, *self.session.shapes[side])
        pointer = ctypes.cast(self.on_host[side], ctypes.POINTER(ctypes.c_float))
        return np.ctypeslib.as_array(pointer, shape)

    def run(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        batch = len(images)
        given, found = self.view(0, batch), self.view(1, batch)
        given[...] = images
        self.context.set_input_shape(self.session.input, images.shape)
        size = ctypes.c_size_t(given.nbytes)
        self.driver.call("cuMemcpyHtoDAsync_v2", self.on_gpu[0], self.on_host[0], size, self.stream)
        if not self.context.execute_async_v3(self.stream.value):
            raise EngineError("TensorRT failed while it ran", got=self.session.logger.told()[-300:])
        size = ctypes.c_size_t(found.nbytes)
        self.driver.call("cuMemcpyDtoHAsync_v2", self.on_host[1], self.on_gpu[1], size, self.stream)
        self.driver.call("cuStreamSynchronize", self.stream)
        return found.copy()

    def __del__(self) -> None:
        """A thread's memory goes with the thread."""
        for address in getattr(self, "on_gpu", ()):
            self.driver.library.cuMemFree_v2(address)
        for address in getattr(self, "on_host", ()):
            self.driver.library.cuMemFreeHost(address)


def retain_primary(driver: Driver) -> ctypes.c_void_p:
    """The context that the CUDA runtime inside TensorRT uses as well."""
    device, context = ctypes.c_int(), ctypes.c_void_p()
    driver.call("cuDeviceGet", ctypes.byref(device), 0)
    driver.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
    driver.call("cuCtxSetCurrent", context)
    return context
