"""TensorRT and TensorRT-RTX as targets; see `docs/tensorrt.md`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from paraexport.targets.compilation import EngineInfo, EngineOptions
from paraexport.targets.folder import Folder
from paraexport.targets.target import UNTOLD, Availability, Dialect, Workload
from paraexport.targets.trt import build, device, info, session
from paraexport.targets.trt.flavour import Flavour
from paraexport.timing.clock import Progress


@dataclass(frozen=True)
class TensorRT:
    """One of the two, by its flavour."""

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
        return tuple(one.opt for one in info.read(folder).profiles)

    def open_session(self, folder: Folder, workload: Workload) -> session.EngineSession:  # noqa: ARG002 (the engine tells)
        return session.open_session(self.flavour, folder)

    def low_products(self, folder: Folder) -> frozenset[str] | str:
        found = session.nodes_in_int8(self.flavour, folder)
        return UNTOLD if found is None else found

    def slow_int8(self) -> str:
        return ""
