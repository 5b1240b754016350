"""How a target compiles a graph, and what it became: frozen dataclasses that pass between stages."""

from __future__ import annotations

from dataclasses import dataclass

from paraexport.targets.profiles import Profile


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """How a target compiles the graph and runs it; `docs/tensorrt.md` says what each costs, and which target takes it.

    None leaves the choice to the target.
    """

    compute_capabilities: tuple[str, ...] = ()
    """GPUs to compile for, `8.9`; empty for all that the target knows."""
    profiles: tuple[Profile, ...] = ()
    """Ranges of batches with kernels of their own; by default one up to the largest batch, chosen for 8 or that."""
    workspace_mib: int | None = None
    """GPU memory that a kernel may use beside its inputs and outputs."""
    optimization_level: int | None = None
    """0 to 5: how long to search for faster kernels."""
    aux_streams: int | None = None
    """Streams beside the first, on which branches may run side by side."""
    version_compatible: bool = False
    """Runs on later versions of the runtime too."""
    hardware_compatible: bool = False
    """Runs on later GPUs too, of compute capability 8.0 and up."""
    stripped: bool = False
    """Leave out the weights: they are read from `model.onnx` when the engine is opened."""
    tf32: bool = False
    """Let float32 products round their inputs to 11 bits."""
    cuda_graphs: bool = True
    """Record runs as CUDA graphs, so that one launch stands for that of every kernel."""
    timing_cache: bool = True
    """Keep what was timed on this GPU for the next build."""


@dataclass(frozen=True)
class EngineLayer:
    """One layer of a compiled engine, which may be many nodes of the graph."""

    name: str
    kind: str
    outputs: tuple[str, ...]
    """The types of its outputs, in the words of the runtime."""
    inputs: tuple[str, ...]
    nodes: tuple[str, ...]
    """The ONNX nodes in it."""


@dataclass(frozen=True)
class Inspection:
    """What an engine became, read back from it on a GPU."""

    layers: tuple[EngineLayer, ...]
    aux_streams: int
    """That it uses; it may be fewer than were asked for."""
    memory_bytes: int
    """GPU memory of one execution context, beside weights, inputs and outputs."""


@dataclass(frozen=True, kw_only=True)
class EngineInfo:
    """What was compiled, by what and for what: `engine.json` beside `model.engine`."""

    runtime: str
    version: str
    """Of the runtime that compiled it."""
    built_for: tuple[str, ...]
    """Compute capabilities; empty for all that the runtime knows."""
    built_on: str
    """The GPU of the build; empty where there was none."""
    profiles: tuple[Profile, ...]
    """The batches that it takes, those that kernels were chosen for in the middle; numbered as the engine does."""
    options: EngineOptions
    network_layers: int
    """In TensorRT's reading of the graph, before it fuses any."""
    products: dict[str, tuple[str, ...]]
    """The types that each product reads, by ONNX node, as the plan itself lists them; empty where it lists none.

    Of each profile where these differ, `unlisted` for one that does not list it.
    """
    fused_attention: bool
    """The plan holds a kernel that computes an attention at once."""
    size_bytes: int
    inspection: Inspection | None
    not_inspected: str
    """Why there is no inspection; empty where there is one."""
    warnings: tuple[str, ...]
    """What the compiler said."""
