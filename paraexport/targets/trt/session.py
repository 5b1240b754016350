"""model.engine on the GPU, opened once; each thread that calls has a worker of its own.

Written to NVIDIA's documents; it has not been run, since there was no GPU to run it on (docs/tensorrt.md).
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
        MissingError: TensorRT, a GPU, or a GPU or version that the engine was compiled for, is not here.
        BundleError: there is no engine, or TensorRT cannot read it.
    """
    told = info.read(folder)
    if found := obstacle(flavour, folder):
        again = "onnxruntime" if flavour.unusable(flavour.load(), find_device()) else flavour.name
        raise MissingError(
            f"{info.ENGINE} cannot run here: {found}",
            where=folder.path,
            remedy=f"run it where it was built for, or build it again for this machine with --target {again}",
        )
    return EngineSession(flavour, folder, told)


def obstacle(flavour: Flavour, folder: Folder) -> str:
    """Why the engine in `folder` cannot run here, or nothing."""
    trt, device = flavour.load(), find_device()
    found = info.obstacles(info.read(folder), str(trt.__version__), device, flavour.unusable(trt, device))
    return "; ".join(found)


def nodes_in_int8(flavour: Flavour, folder: Folder) -> frozenset[str] | None:
    """The ONNX nodes that the engine in `folder` computes in int8: as it says on a GPU, else as its plan lists them.

    None where neither names a node.

    Raises:
        MissingError: the engine cannot run here, and the plan lists nothing.
    """
    told = info.read(folder)
    found = told.inspection
    if found is None and not (told.products and obstacle(flavour, folder)):
        loaded = open_session(flavour, folder).loaded
        found = info.inspect(loaded.trt, loaded.engine)
    if found is not None and any(layer.nodes for layer in found.layers):
        return info.nodes_in_int8(found)
    listed = frozenset(name for name, types in told.products.items() if {*types} == {"int8"})
    return listed if told.products else None


class EngineSession:
    """One engine; safe from many threads. Its memory on the GPU goes with it, and a thread's with the thread."""

    def __init__(self, flavour: Flavour, folder: Folder, told: EngineInfo) -> None:
        self.loaded = LoadedEngine(flavour, folder, told)
        self.local = threading.local()

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        return self.loaded.inputs

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        return self.loaded.outputs

    @property
    def without_graphs(self) -> str:
        """Why runs are not recorded as CUDA graphs; empty where they are."""
        return self.loaded.without_graphs

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 [N, C, H, W] -> float32 [N, classes].

        Raises:
            EngineError: no profile takes N.
        """
        self.loaded.driver.call("cuCtxSetCurrent", self.loaded.primary)
        worker = getattr(self.local, "worker", None)
        if worker is None:
            worker = self.local.worker = Worker(self.loaded)
        return worker.run(images)
