"""Makes TensorRT and TensorRT-RTX targets; see `docs/tensorrt.md`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from paraexport.targets.compilation import EngineInfo, EngineOptions
from paraexport.targets.folder import Folder
from paraexport.targets.runtime import Known, Runtime
from paraexport.targets.target import NOT_REPORTED, Availability, Dialect, Workload
from paraexport.targets.trt import build, device, info, session
from paraexport.targets.trt.flavour import Flavour
from paraexport.timing.clock import Progress

DEVICE = "GPU"


@dataclass(frozen=True)
class TensorRT:
    """The target of one flavour."""

    flavour: Flavour
    dialect: ClassVar = Dialect(signed=True, opset=20)
    layout: ClassVar = "stacked"

    @property
    def name(self) -> str:
        return self.flavour.name

    @property
    def engine_options(self) -> frozenset[str]:
        return self.flavour.options

    def availability(self) -> Availability:
        return self.flavour.availability()

    def check(self, wanted: EngineOptions) -> None:
        trt = self.flavour.load()
        for text in wanted.compute_capabilities:
            self.flavour.capability(trt, text)

    def here(self) -> str:
        return str(device.find_device())

    def compile_model(self, folder: Path, max_batch: int, wanted: EngineOptions, progress: Progress) -> EngineInfo:
        return build.compile_model(self.flavour, folder, max_batch, wanted, progress)

    def obstacle(self, folder: Folder) -> str:
        return session.obstacle(self.flavour, folder)

    def optima(self, folder: Folder) -> tuple[int, ...]:
        return tuple(batch_range.opt for batch_range in info.read(folder).profiles)

    def runtime(self, folder: Folder, workload: Workload, opset: int | None = None) -> Runtime:  # noqa: ARG002
        # Everything else about an engine is in engine.json.
        version = info.read(folder).version
        return Runtime(library=self.flavour.name, minimum_version=version, file=info.ENGINE, device=DEVICE)

    def open_session(
        self,
        folder: Folder,
        workload: Workload,  # noqa: ARG002 (the engine knows)
        runtime: Runtime | None = None,
    ) -> session.EngineSession:
        if runtime is not None:
            Known(self.flavour.name, info.ENGINE, DEVICE).require(runtime, folder.path)
        return session.open_session(self.flavour, folder)

    def int8_products(self, folder: Folder) -> frozenset[str] | str:
        nodes = session.nodes_in_int8(self.flavour, folder)
        return NOT_REPORTED if nodes is None else nodes

    def slow_int8(self) -> str:
        return ""
