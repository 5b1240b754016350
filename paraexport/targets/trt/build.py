"""model.onnx -> model.engine, and engine.json, which says what it is."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paraexport.errors import EngineError, MissingError
from paraexport.system.files import cache_folder
from paraexport.targets.compilation import EngineInfo, EngineOptions, Inspection
from paraexport.targets.profiles import Profile, settle
from paraexport.targets.trt import info
from paraexport.targets.trt import plan as listing
from paraexport.targets.trt.device import Device, find_device
from paraexport.targets.trt.flavour import Flavour
from paraexport.targets.trt.loaded import unreadable
from paraexport.targets.trt.logger import logger_of, new_monitor, old_driver, started
from paraexport.targets.trt.network import parse
from paraexport.targets.trt.stoppable import stoppable
from paraexport.timing.clock import Progress

MIB = 2**20
NO_LAYERS = "the engine inspector tells of no layers, or in another form than its documents"


def compile_model(
    flavour: Flavour, folder: Path, max_batch: int, wanted: EngineOptions, progress: Progress
) -> EngineInfo:
    """Compile `model.onnx` in `folder` for batches of 1 to `max_batch` images.

    Raises:
        MissingError: TensorRT is not installed here, or cannot start.
        EngineError: the graph or an option cannot be compiled.
    """
    trt = flavour.load()
    logger, monitor = logger_of(trt), new_monitor(trt, progress)
    logger.start()
    builder = started(trt.Builder, logger)
    network = parse(flavour, trt, builder, logger, folder / "model.onnx")
    profiles = settle(wanted.profiles, max_batch)
    config = builder.create_builder_config()
    config.progress_monitor = monitor
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    set_options(flavour, trt, config, wanted)
    set_profiles(builder, config, network, profiles)
    device = find_device()
    cache = open_timing_cache(flavour, trt, config, wanted, device)
    plan = stoppable(lambda: builder.build_serialized_network(network, config), monitor.stop)
    if monitor.raised is not None:
        raise monitor.raised
    if plan is None:
        raise failure(flavour, logger.told(), wanted, max_batch)
    content = memoryview(plan)  # no copy: it is as large as the weights
    (folder / info.ENGINE).write_bytes(content)
    if cache is not None:
        keep_timing_cache(config, cache)
    told = EngineInfo(
        runtime=flavour.title,
        version=str(trt.__version__),
        built_for=built_for(flavour, wanted, device),
        built_on=str(device) if isinstance(device, Device) else "",
        profiles=profiles,
        options=wanted,
        network_layers=network.num_layers,
        products=dict(listing.products(content, len(profiles))),
        fused_attention=listing.fuses_attention(content),
        size_bytes=content.nbytes,
        inspection=None,
        not_inspected="",
        warnings=tuple(dict.fromkeys(logger.warnings)),
    )
    if found := "; ".join(info.obstacles(told, told.version, device, flavour.unusable(trt, device))):
        told = dataclasses.replace(told, not_inspected=found)
    else:
        found_inside = look_inside(trt, plan)
        untold = () if found_inside.layers else (NO_LAYERS,)
        told = dataclasses.replace(told, inspection=found_inside, warnings=(*told.warnings, *untold))
    info.write(folder, told)
    return told


def set_profiles(builder: Any, config: Any, network: Any, profiles: Sequence[Profile]) -> None:
    images = network.get_input(0)
    for one in profiles:
        profile = builder.create_optimization_profile()
        profile.set_shape(images.name, *((size, *tuple(images.shape)[1:]) for size in (one.min, one.opt, one.max)))
        if config.add_optimization_profile(profile) < 0:
            raise EngineError("TensorRT refuses the profile", where="--profile", got=one)


def set_options(flavour: Flavour, trt: Any, config: Any, wanted: EngineOptions) -> None:
    """Only what was asked for is set: the rest stays as TensorRT has it, but for TF32, which float32 does not mean."""
    if wanted.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if wanted.stripped:
        config.set_flag(trt.BuilderFlag.STRIP_PLAN)
        config.set_flag(trt.BuilderFlag.REFIT_IDENTICAL)
    if not wanted.tf32:
        config.clear_flag(trt.BuilderFlag.TF32)
    if wanted.workspace_mib is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, wanted.workspace_mib * MIB)
    if wanted.optimization_level is not None:
        config.builder_optimization_level = wanted.optimization_level
    if wanted.aux_streams is not None:
        config.max_aux_streams = wanted.aux_streams
    if wanted.hardware_compatible:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    if wanted.compute_capabilities:
        config.num_compute_capabilities = len(wanted.compute_capabilities)
        for index, text in enumerate(wanted.compute_capabilities):
            config.set_compute_capability(flavour.capability(trt, text), index)


def built_for(flavour: Flavour, wanted: EngineOptions, device: Device | str) -> tuple[str, ...]:
    if flavour.ahead_of_time:
        return wanted.compute_capabilities
    return (device.compute_capability,) if isinstance(device, Device) else ()


def look_inside(trt: Any, plan: Any) -> Inspection:
    logger = logger_of(trt)
    runtime = started(trt.Runtime, logger)
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise unreadable(info.ENGINE, logger.told())
    return info.inspect(trt, engine)


def failure(flavour: Flavour, said: str, wanted: EngineOptions, max_batch: int) -> EngineError | MissingError:
    """What TensorRT said last, and what can be done about it."""
    if old := old_driver(said, "model.onnx"):
        return old
    low = said.lower()
    if "turing" in low or "sm75" in low:
        remedy = "leave compute capability 7.5 out: it has no float32 products there, and every graph of ours has some"
    elif "bad_alloc" in low:
        remedy = "free memory of this machine, or build with --layout stacked, or fewer of --branches"
    elif ("workspace" in low or "memory" in low) and wanted.workspace_mib is not None:
        remedy = f"give more than --engine workspace_mib={wanted.workspace_mib}, leave it out, or lower --max-batch"
    elif "memory" in low or "workspace" in low:
        remedy = f"give a --max-batch below {max_batch}, or --engine workspace_mib=N, or free memory of the GPU"
    elif "version_compatible" in low or "libnvinfer_lean" in low:
        remedy = "version_compatible needs the lean runtime: pip install tensorrt-lean, or leave it out"
    else:
        remedy = "build with another --layout or --precision, and please report the message"
    return EngineError(f"{flavour.title} cannot compile the graph", where="model.onnx", got=said[:600], remedy=remedy)


def open_timing_cache(
    flavour: Flavour, trt: Any, config: Any, wanted: EngineOptions, device: Device | str
) -> Path | None:
    """What was timed before on this kind of GPU by this version, and where to keep it; None where nothing is timed."""
    if "timing_cache" not in flavour.options or not wanted.timing_cache or isinstance(device, str):
        return None
    name = "".join(letter if letter.isalnum() else "-" for letter in f"{device.name}-{trt.__version__}")
    file = cache_folder("timing") / f"{name}.cache"
    kept: list[bytes] = []
    with contextlib.suppress(OSError):
        kept = [file.read_bytes()]
    for content in (*kept, b""):  # a new one where that which was kept is damaged, or of another driver
        cache = config.create_timing_cache(content)
        if cache is not None and config.set_timing_cache(cache, ignore_mismatch=False):
            return file
    return None


def keep_timing_cache(config: Any, file: Path) -> None:
    """Written beside and renamed, so that builds at the same time do no harm; left out where that is not possible."""
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=file.parent) as beside:
            part = Path(beside) / file.name
            part.write_bytes(config.get_timing_cache().serialize())
            part.replace(file)
