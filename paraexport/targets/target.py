"""What a target is: the protocols that each keeps to, and what they tell of themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from paraexport.findings.graphs import TensorInfo
from paraexport.targets.compilation import EngineInfo, EngineOptions
from paraexport.targets.folder import Folder
from paraexport.timing.clock import Progress

UNTOLD = "the runtime does not tell what it computes in int8"


@dataclass(frozen=True)
class Availability:
    """Whether a target can build and run here; `missing` and `remedy` say what to do where it cannot."""

    version: str | None
    missing: str = ""
    remedy: str = ""
    idle: str = ""
    """Why what is built here cannot run here; empty where it can."""


@dataclass(frozen=True)
class Dialect:
    """How graphs are written for a target."""

    signed: bool
    """int8 with zero point 0 for activations; else uint8 with a zero point of its own for each."""
    own_operators: bool = False
    """The operators of ONNX Runtime's own domain, in the place of Q/DQ around products."""
    bias_rows: bool = False
    """Biases and zero points as rows of int8 weights, where each branch has a weight of its own in one product."""
    weights_only: tuple[str, ...] = ()
    """The half precisions that it has no kernels for: weights are kept in half, and multiplied in float32."""
    half_runs_in: str = ""
    """What it computes half precision in, where that is not half."""
    opset: int | None = None
    """What float32 graphs are lowered to; None where they stay as they are traced. Lower precision is in 20."""
    refuses: Mapping[str, str] = field(default_factory=dict, hash=False)
    """The precisions that it would not run as the graph has them, and why."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What a session is opened for."""

    image: tuple[int, ...]
    """[C, H, W]."""
    max_batch: int
    precision: str = "fp32"
    threads: int | None = None
    """Inside one call, on a CPU; the runtime's default, one a physical core, when None."""


class Session(Protocol):
    """An opened model: float32 [N, C, H, W] -> float32 [N, classes]; safe from many threads."""

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        """What the model itself says of its inputs; the name of a symbolic axis means nothing."""
        ...

    @property
    def outputs(self) -> tuple[TensorInfo, ...]: ...

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]: ...


class Target(Protocol):
    """Where a graph runs. Making one imports no runtime: a method imports it when it is called."""

    @property
    def name(self) -> str: ...

    @property
    def dialect(self) -> Dialect: ...

    def availability(self) -> Availability: ...

    def open_session(self, folder: Folder, workload: Workload) -> Session: ...

    def low_products(self, folder: Folder) -> frozenset[str] | str:
        """The names of the products that this runtime computes in int8, read back from what it made of the model.

        Or why that cannot be told here.
        """
        ...

    def slow_int8(self) -> str:
        """What int8 costs on this machine where it is not as fast as on others; empty where it is."""
        ...


@runtime_checkable
class Compiler(Target, Protocol):
    """A target that runs what it has made of `model.onnx` beforehand."""

    @property
    def engine_options(self) -> frozenset[str]:
        """The fields of `EngineOptions` that it takes."""
        ...

    @property
    def layout(self) -> str:
        """What `auto` takes where nothing can be timed."""
        ...

    def check(self, wanted: EngineOptions) -> None:
        """Raise an `EngineError` where the version that is installed here cannot compile so."""
        ...

    def here(self) -> str:
        """The device that it compiles for or why there is none, in words; another one may want another engine."""
        ...

    def obstacle(self, folder: Folder) -> str:
        """Why the engine in `folder` cannot run here; empty where it can."""
        ...

    def optima(self, folder: Folder) -> tuple[int, ...]:
        """The batches that the kernels of the engine in `folder` were chosen for."""
        ...

    def compile_model(self, folder: Path, max_batch: int, wanted: EngineOptions, progress: Progress) -> EngineInfo:
        """Compile `model.onnx`, in the same folder; `progress` is told of phases."""
        ...
