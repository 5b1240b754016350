"""Runs model.engine on the GPU. The engine is opened once, and each calling thread has its own worker.

It follows NVIDIA's documents, and has not been run on a GPU yet (docs/tensorrt.md).
"""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from paraexport.errors import MissingError
from paraexport.findings.graphs import TensorInfo
from paraexport.targets.compilation import EngineInfo
from paraexport.targets.folder import Folder
from paraexport.targets.trt import info
from paraexport.targets.trt.device import find_device
from paraexport.targets.trt.flavour import Flavour
from paraexport.targets.trt.loaded import LoadedEngine
from paraexport.targets.trt.worker import Worker


def open_session(flavour: Flavour, folder: Folder) -> EngineSession:
    """Open the engine in `folder`.

    Raises:
        MissingError: there is no TensorRT or no GPU here, or the engine was compiled for another GPU or version.
        BundleError: there is no engine, or TensorRT cannot read it.
    """
    engine_info = info.read(folder)
    if reason := obstacle(flavour, folder):
        target = "onnxruntime" if flavour.unusable(flavour.load(), find_device()) else flavour.name
        raise MissingError(
            f"{info.ENGINE} cannot run here: {reason}",
            where=folder.path,
            remedy=f"run it on a machine that it was built for, or build it again for this one with --target {target}",
        )
    return EngineSession(flavour, folder, engine_info)


def obstacle(flavour: Flavour, folder: Folder) -> str:
    """Why the engine in `folder` cannot run here; empty if it can."""
    trt, device = flavour.load(), find_device()
    reasons = info.obstacles(info.read(folder), str(trt.__version__), device, flavour.unusable(trt, device))
    return "; ".join(reasons)


def nodes_in_int8(flavour: Flavour, folder: Folder) -> frozenset[str] | None:
    """The ONNX nodes that the engine in `folder` computes in int8: from its inspection on a GPU, else from its plan.

    None if neither names a node.

    Raises:
        MissingError: the engine cannot run here, and the plan lists no products.
    """
    engine_info = info.read(folder)
    inspection = engine_info.inspection
    if inspection is None and not (engine_info.products and obstacle(flavour, folder)):
        loaded = open_session(flavour, folder).loaded
        inspection = info.inspect(loaded.trt, loaded.engine)
    if inspection is not None and any(layer.nodes for layer in inspection.layers):
        return info.nodes_in_int8(inspection)
    listed = frozenset(name for name, types in engine_info.products.items() if {*types} == {"int8"})
    return listed if engine_info.products else None


class EngineSession:
    """One engine. Many threads may call it. Its GPU memory is freed with it, and a thread's memory with the thread."""

    def __init__(self, flavour: Flavour, folder: Folder, engine_info: EngineInfo) -> None:
        self.loaded = LoadedEngine(flavour, folder, engine_info)
        self.local = threading.local()

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        return self.loaded.inputs

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        return self.loaded.outputs

    @property
    def without_graphs(self) -> str:
        """Why runs are not recorded as CUDA graphs; empty if they are."""
        return self.loaded.without_graphs

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 [N, C, H, W] -> float32 [N, classes].

        Raises:
            EngineError: no profile accepts the batch size N.
        """
        self.loaded.driver.call("cuCtxSetCurrent", self.loaded.primary)
        worker = getattr(self.local, "worker", None)
        if worker is None:
            worker = self.local.worker = Worker(self.loaded)
        return worker.run(images)
