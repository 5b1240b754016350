"""Options of a compilation, and the facts of its result: frozen dataclasses that pass between stages."""

from __future__ import annotations

from dataclasses import dataclass

from paraexport.targets.profiles import Profile


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """How a target compiles the graph and runs it. None leaves the choice to the target.

    `docs/tensorrt.md` describes the cost of each option, and which targets accept it.
    """

    compute_capabilities: tuple[str, ...] = ()
    """GPUs to compile for, as `8.9`; empty for all that the target knows."""
    profiles: tuple[Profile, ...] = ()
    """Ranges of batch sizes, each with its own kernels. By default one range, optimised for 8 or the largest batch."""
    workspace_mib: int | None = None
    """GPU memory that a kernel may use in addition to its inputs and outputs."""
    optimization_level: int | None = None
    """0 to 5. Higher levels search longer for faster kernels."""
    aux_streams: int | None = None
    """Additional streams, on which branches may run in parallel."""
    version_compatible: bool = False
    """The engine also runs on later versions of the runtime."""
    hardware_compatible: bool = False
    """The engine also runs on later GPUs, of compute capability 8.0 and up."""
    stripped: bool = False
    """Leave the weights out of the engine. They are read from `model.onnx` when it is opened."""
    tf32: bool = False
    """Let float32 products round their inputs to 11 bits."""
    cuda_graphs: bool = True
    """Record runs as CUDA graphs, so that one launch starts all kernels."""
    timing_cache: bool = True
    """Cache the times of kernels on this GPU for the next build."""


@dataclass(frozen=True)
class EngineLayer:
    """One layer of a compiled engine. It may hold many nodes of the graph."""

    name: str
    kind: str
    outputs: tuple[str, ...]
    """The types of its outputs, as the runtime names them."""
    inputs: tuple[str, ...]
    nodes: tuple[str, ...]
    """The ONNX nodes in it."""


@dataclass(frozen=True)
class Inspection:
    """The layers and the memory of an engine, read from it on a GPU."""

    layers: tuple[EngineLayer, ...]
    aux_streams: int
    """Streams that it uses. They may be fewer than requested."""
    memory_bytes: int
    """GPU memory of one execution context, without weights, inputs and outputs."""


@dataclass(frozen=True, kw_only=True)
class EngineInfo:
    """The facts of an engine, as in `engine.json`: the compiler, its options, and the result."""

    runtime: str
    version: str
    """The version of the runtime that compiled it."""
    built_for: tuple[str, ...]
    """Compute capabilities; empty for all that the runtime knows."""
    built_on: str
    """The GPU of the build; empty if there was none."""
    profiles: tuple[Profile, ...]
    """The batch sizes that it accepts, in the order of the engine's profiles."""
    options: EngineOptions
    network_layers: int
    """Layers of the network that TensorRT read, before it fused any."""
    products: dict[str, tuple[str, ...]]
    """ONNX node -> the types that its product reads, as the plan lists them; empty if it lists none.

    If profiles differ, the types of all of them, with `unlisted` for a profile that does not list the product.
    """
    fused_attention: bool
    """The plan holds a kernel that computes a whole attention."""
    size_bytes: int
    inspection: Inspection | None
    not_inspected: str
    """Why there is no inspection; empty if there is one."""
    warnings: tuple[str, ...]
    """Warnings of the compiler."""
