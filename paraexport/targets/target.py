"""Defines the protocols of targets, sessions and compilers, and the facts that a target gives about itself."""

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
from paraexport.targets.runtime import Runtime
from paraexport.timing.clock import Progress

NOT_REPORTED = "the runtime does not report what it computes in int8"


@dataclass(frozen=True)
class Availability:
    """Whether a target can build and run here; if not, what is missing and how to get it."""

    version: str | None
    """The version of the runtime; None if the target cannot be used."""
    missing: str = ""
    remedy: str = ""
    idle: str = ""
    """Why the target can build here but not run; empty if it can run."""


@dataclass(frozen=True)
class Dialect:
    """How graphs are written for a target."""

    signed: bool
    """Activations are int8 with zero point 0; otherwise uint8, each with its own zero point."""
    own_operators: bool = False
    """Use operators of ONNX Runtime's own domain instead of Q/DQ around products."""
    bias_rows: bool = False
    """Write biases and zero points as rows of int8 weights, in products with one weight per branch."""
    weights_only: tuple[str, ...] = ()
    """The half precisions without kernels: weights are stored in half and multiplied in float32."""
    half_runs_in: str = ""
    """The precision that half products run in, with the consequences; empty if they run in half."""
    opset: int | None = None
    """The opset of float32 graphs; None keeps the traced one. Graphs in lower precision always use opset 20."""
    refuses: Mapping[str, str] = field(default_factory=dict, hash=False)
    """The precisions that it would not run as written in the graph, with the reason."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What a session must be able to run."""

    image: tuple[int, ...]
    """[C, H, W]."""
    max_batch: int
    precision: str = "fp32"
    threads: int | None = None
    """CPU threads inside one call; None for the runtime's default, one per physical core."""


class Session(Protocol):
    """An opened model: float32 [N, C, H, W] -> float32 [N, classes]. Many threads may call it."""

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        """The inputs, as the model declares them. The name of a symbolic axis has no meaning."""
        ...

    @property
    def outputs(self) -> tuple[TensorInfo, ...]: ...

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]: ...


class Target(Protocol):
    """Where a graph runs. Methods import the runtime when they are called, not earlier."""

    @property
    def name(self) -> str: ...

    @property
    def dialect(self) -> Dialect: ...

    def availability(self) -> Availability: ...

    def runtime(self, folder: Folder, workload: Workload, opset: int | None = None) -> Runtime:
        """How any program opens the model in `folder`. `opset` is the model's; None if it is not known."""
        ...

    def open_session(self, folder: Folder, workload: Workload, runtime: Runtime | None = None) -> Session:
        """Open the model as `runtime` says, by default as `self.runtime` says.

        Raises:
            BundleError: `runtime` asks for something that this target does not know.
            MissingError: the library is older than `runtime` allows.
        """
        ...

    def int8_products(self, folder: Folder) -> frozenset[str] | str:
        """The names of the products that the runtime computes in int8, read from the model that it optimised.

        If they cannot be known here, the reason as a string.
        """
        ...

    def slow_int8(self) -> str:
        """Why int8 is slower on this machine than on others; empty if it is not."""
        ...


@runtime_checkable
class Compiler(Target, Protocol):
    """A target that compiles `model.onnx` to an engine beforehand, and runs that."""

    @property
    def engine_options(self) -> frozenset[str]:
        """The fields of `EngineOptions` that it accepts."""
        ...

    @property
    def layout(self) -> str:
        """The layout that `auto` chooses if nothing can be timed."""
        ...

    def check(self, wanted: EngineOptions) -> None:
        """Raise an `EngineError` if the installed version cannot compile with these options."""
        ...

    def here(self) -> str:
        """The device that it compiles for, in words, or why there is none. It is part of the cache key."""
        ...

    def obstacle(self, folder: Folder) -> str:
        """Why the engine in `folder` cannot run here; empty if it can."""
        ...

    def optima(self, folder: Folder) -> tuple[int, ...]:
        """The batch sizes that the engine in `folder` is optimised for."""
        ...

    def compile_model(self, folder: Path, max_batch: int, wanted: EngineOptions, progress: Progress) -> EngineInfo:
        """Compile `model.onnx` in this folder. `progress` receives the name of each phase."""
        ...
