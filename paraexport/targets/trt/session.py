"""model.engine on the GPU, opened once; each thread that calls has a worker of its own.

Written to NVIDIA's documents; it has not been run, since there was no GPU to run it on (docs/tensorrt.md).
"""

from __future__ import annotations

import ctypes
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paraexport.compilation import EngineInfo
from paraexport.errors import BundleError, MissingError
from paraexport.targets.trt import info
from paraexport.targets.trt.device import Device, Driver, find_device
from paraexport.targets.trt.flavour import Flavour
from paraexport.targets.trt.logger import logger_of, old_driver, started
from paraexport.targets.trt.worker import Worker

GRAPHS_OFF = "--engine cuda_graphs=false"


def open_session(flavour: Flavour, folder: Path) -> EngineSession:
    """Open the engine in `folder`.

    Raises:
        MissingError: TensorRT, a GPU, or a GPU or version that the engine was compiled for, is not here.
        BundleError: there is no engine, or TensorRT cannot read it.
    """
    told = info.read(folder)
    if found := obstacle(flavour, folder):
        again = f"--target {flavour.name}" if isinstance(find_device(), Device) else "--target onnxruntime"
        raise MissingError(
            f"{info.ENGINE} cannot run here: {found}",
            where=folder,
            remedy=f"run it where it was built for, or build it again for this machine with {again}",
        )
    return EngineSession(flavour, folder, told)


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
        return frozenset(name for name, types in told.products.items() if {*types} == {"int8"})
    if found is None:
        opened = open_session(flavour, folder)
        found = info.inspect(opened.trt, opened.engine)
    return info.nodes_in_int8(found)


class EngineSession:
    """One engine; safe from many threads."""

    def __init__(self, flavour: Flavour, folder: Path, told: EngineInfo) -> None:
        self.flavour, self.told = flavour, told
        self.trt = trt = flavour.load()
        self.without_graphs = "" if told.options.cuda_graphs else GRAPHS_OFF
        """Why runs are not recorded as CUDA graphs; empty where they are."""
        self.driver, self.logger = Driver(), logger_of(trt)
        self.primary = retain_primary(self.driver)
        self.runtime = started(trt.Runtime, self.logger)
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
        self.runtime_cache = flavour.new_runtime_cache(self.engine)
        self.local = threading.local()

    def refit(self, model: Path) -> None:
        """Give a stripped engine the weights of its ONNX file."""
        refitter = self.trt.Refitter(self.engine, self.logger)
        parser = self.trt.OnnxParserRefitter(refitter, self.logger)
        if not parser.refit_from_file(str(model)) or not refitter.refit_cuda_engine():
            raise BundleError("the weights do not fit the engine", where=model, got=self.logger.told()[:300])

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 [N, C, H, W] -> float32 [N, classes].

        Raises:
            EngineError: no profile takes N.
        """
        self.driver.call("cuCtxSetCurrent", self.primary)
        worker = getattr(self.local, "worker", None)
        if worker is None:
            worker = self.local.worker = Worker(self)
        return worker.run(images)

    def new_context(self, *, recording: bool) -> Any:
        """An execution context on memory that its worker gives it; `recording`: it runs one batch, as a CUDA graph."""
        strategy = self.trt.ExecutionContextAllocationStrategy.USER_MANAGED
        runtime_config = self.engine.create_runtime_config()
        runtime_config.set_execution_context_allocation_strategy(strategy)
        self.flavour.set_runtime_options(self.trt, runtime_config, self.runtime_cache, recording=recording)
        context = self.engine.create_execution_context(runtime_config)
        if context is None:
            raise MissingError("no execution context", where="the GPU", got=self.logger.told()[:300])
        return context

    def refuse_graphs(self, reason: str) -> None:
        """Run kernel by kernel from now on, and say why."""
        self.without_graphs = reason
        warnings.warn(f"runs are not recorded as CUDA graphs, which is slower: {reason}", RuntimeWarning, stacklevel=2)


def unreadable(folder: Path, said: str) -> BundleError | MissingError:
    """Why TensorRT did not open an engine whose version and device are right."""
    if old := old_driver(said, folder):
        return old
    if "memory" in said.lower():
        remedy = "free memory of the GPU, or build with a lower --max-batch"
        return MissingError("the GPU has no memory left", where=folder, got=said[:300], remedy=remedy)
    return BundleError("TensorRT cannot read the engine", where=folder, got=said[:300], remedy="build it again")


def retain_primary(driver: Driver) -> ctypes.c_void_p:
    """The context that the CUDA runtime inside TensorRT uses as well."""
    device, context = ctypes.c_int(), ctypes.c_void_p()
    driver.call("cuDeviceGet", ctypes.byref(device), 0)
    driver.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
    driver.call("cuCtxSetCurrent", context)
    return context
