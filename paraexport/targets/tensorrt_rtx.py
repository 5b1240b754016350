"""TensorRT-RTX: compiled with or without a GPU, for GeForce RTX, RTX PRO and their like; see `docs/tensorrt.md`."""

from __future__ import annotations

from pathlib import Path

from paraexport.clock import Progress
from paraexport.compilation import EngineInfo, EngineOptions
from paraexport.targets import Availability, Dialect
from paraexport.targets.trt import build, device, session
from paraexport.targets.trt.flavour import RTX as FLAVOUR

NAME = FLAVOUR.name
DIALECT = Dialect(signed=True)
LAYOUT = "stacked"
ENGINE_OPTIONS = FLAVOUR.options


def availability() -> Availability:
    return FLAVOUR.availability()


def here() -> str:
    return str(device.find_device())


def compile_model(folder: Path, max_batch: int, wanted: EngineOptions, progress: Progress) -> EngineInfo:
    return build.compile_model(FLAVOUR, folder, max_batch, wanted, progress)


def obstacle(folder: Path) -> str:
    return session.obstacle(FLAVOUR, folder)


def open_session(folder: Path, threads: int | None) -> session.EngineSession:  # noqa: ARG001 (a GPU has its own)
    return session.open_session(FLAVOUR, folder)


def low_products(folder: Path) -> frozenset[str]:
    return session.nodes_in_int8(FLAVOUR, folder)
