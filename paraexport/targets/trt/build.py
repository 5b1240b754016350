"""Compiles model.onnx to model.engine, and describes it in engine.json."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paraexport.errors import EngineError, MissingError
from paraexport.system.files import cache_folder
from paraexport.targets.cached_file import write_cached
from paraexport.targets.compilation import EngineInfo, EngineOptions, Inspection
from paraexport.targets.profiles import Profile, settle
from paraexport.targets.trt import info
from paraexport.targets.trt import plan as plan_listing
from paraexport.targets.trt.device import Device, find_device
from paraexport.targets.trt.flavour import Flavour
from paraexport.targets.trt.loaded import unreadable_engine
from paraexport.targets.trt.logger import logger_of, new_monitor, old_driver_error, start
from paraexport.targets.trt.network import parse
from paraexport.targets.trt.stoppable import stoppable
from paraexport.timing.clock import Progress

MIB = 2**20
NO_LAYERS = "the engine inspector reports no layers, or not in the documented form"


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
    logger.clear()
    builder = start(trt.Builder, logger)
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
        raise failure(flavour, logger.error_text(), wanted, max_batch)
    content = memoryview(plan)  # no copy: it is as large as the weights
    (folder / info.ENGINE).write_bytes(content)
    if cache is not None:
        write_cached(cache, config.get_timing_cache().serialize())
    engine_info = EngineInfo(
        runtime=flavour.title,
        version=str(trt.__version__),
        built_for=built_for(flavour, wanted, device),
        built_on=str(device) if isinstance(device, Device) else "",
        profiles=profiles,
        options=wanted,
        network_layers=network.num_layers,
        products=dict(plan_listing.products(content, len(profiles))),
        fused_attention=plan_listing.fuses_attention(content),
        size_bytes=content.nbytes,
        inspection=None,
        not_inspected="",
        warnings=tuple(dict.fromkeys(logger.warnings)),
    )
    unusable = flavour.unusable(trt, device)
    if obstacles := "; ".join(info.obstacles(engine_info, engine_info.version, device, unusable)):
        engine_info = dataclasses.replace(engine_info, not_inspected=obstacles)
    else:
        inspection = inspect_plan(trt, plan)
        warnings = engine_info.warnings if inspection.layers else (*engine_info.warnings, NO_LAYERS)
        engine_info = dataclasses.replace(engine_info, inspection=inspection, warnings=warnings)
    info.write(folder, engine_info)
    return engine_info


def set_profiles(builder: Any, config: Any, network: Any, profiles: Sequence[Profile]) -> None:
    images = network.get_input(0)
    for batch_range in profiles:
        profile = builder.create_optimization_profile()
        batches = (batch_range.min, batch_range.opt, batch_range.max)
        profile.set_shape(images.name, *((batch, *tuple(images.shape)[1:]) for batch in batches))
        if config.add_optimization_profile(profile) < 0:
            remedy = "change the --profile, or leave it out"
            raise EngineError("TensorRT refuses the profile", where="--profile", got=batch_range, remedy=remedy)


def set_options(flavour: Flavour, trt: Any, config: Any, wanted: EngineOptions) -> None:
    """Set the options that were given, and leave the others at TensorRT's defaults.

    TF32 is the exception: it is switched off by default, because float32 does not mean TF32.
    """
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


def inspect_plan(trt: Any, plan: Any) -> Inspection:
    logger = logger_of(trt)
    runtime = start(trt.Runtime, logger)
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise unreadable_engine(info.ENGINE, logger.error_text())
    return info.inspect(trt, engine)


def failure(flavour: Flavour, message: str, wanted: EngineOptions, max_batch: int) -> EngineError | MissingError:
    """The error for TensorRT's last messages, with a remedy."""
    if error := old_driver_error(message, "model.onnx"):
        return error
    low = message.lower()
    if "turing" in low or "sm75" in low:
        remedy = "leave out compute capability 7.5: TensorRT has no float32 products there, and every graph has some"
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
    what, got = f"{flavour.title} cannot compile the graph", message[:600]
    return EngineError(what, where="model.onnx", got=got, remedy=remedy)


def open_timing_cache(
    flavour: Flavour, trt: Any, config: Any, wanted: EngineOptions, device: Device | str
) -> Path | None:
    """Load the times that this version measured before on this kind of GPU; returns the file to write them to.

    None if nothing is timed.
    """
    if "timing_cache" not in flavour.options or not wanted.timing_cache or isinstance(device, str):
        return None
    name = "".join(letter if letter.isalnum() else "-" for letter in f"{device.name}-{trt.__version__}")
    file = cache_folder("timing") / f"{name}.cache"
    cached: list[bytes] = []
    with contextlib.suppress(OSError):
        cached = [file.read_bytes()]
    for content in (*cached, b""):  # start a new cache if the old one is damaged, or of another driver
        cache = config.create_timing_cache(content)
        if cache is not None and config.set_timing_cache(cache, ignore_mismatch=False):
            return file
    return None
