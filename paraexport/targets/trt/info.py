"""engine.json: what an engine is, what it became, and what stands against running it here."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from paraexport.errors import BundleError, on_one_line
from paraexport.targets.compilation import EngineInfo, EngineLayer, Inspection
from paraexport.targets.folder import Folder
from paraexport.targets.trt.device import Device
from paraexport.targets.trt.flavour import release
from paraexport.targets.trt.plan import in_profile

ENGINE, INFO = "model.engine", "engine.json"
ONNX_NODE = re.compile(r"\[ONNX Layer: ([^\]]*)\]")
AMPERE = (8, 0)


def write(folder: Path, info: EngineInfo) -> None:
    content = json.dumps(msgspec.to_builtins(info), indent=2, ensure_ascii=False)
    (folder / INFO).write_text(content + "\n", encoding="utf-8")


def read(folder: Folder) -> EngineInfo:
    """What is said of the engine in `folder`.

    Raises:
        BundleError: there is no engine, or nothing is said of it.
    """
    for name in (ENGINE, INFO):
        if not folder.has(name):
            raise BundleError(
                "there is no engine", where=folder.path, expected=f"{name} in it", remedy="build it again"
            )
    content = folder.read(INFO)
    try:
        return msgspec.json.decode(content, type=EngineInfo)
    except (ValueError, RecursionError) as error:  # msgspec's own is a ValueError
        where, got = folder.path / INFO, on_one_line(error)
        raise BundleError("malformed", where=where, got=got, remedy="build it again") from error


def obstacles(info: EngineInfo, version: str, device: Device | str, unusable: str) -> Iterator[str]:
    """Every reason, as one clause, why the engine cannot run with this version of its runtime on this device.

    `unusable` is why no engine at all runs on the device, or nothing.
    """
    other = f"it was compiled by {info.runtime} {info.version}, and {version} is here"
    if info.options.version_compatible:
        if release(version)[:2] < release(info.version)[:2]:
            yield f"{other}: it runs on the same and later versions"
    elif version != info.version:
        yield f"{other}: it runs on the very same version alone"
    if unusable:
        yield unusable
    elif isinstance(device, Device) and (reason := unfit(info, device)):
        yield reason


def unfit(info: EngineInfo, device: Device) -> str:
    """Why an engine does not run on a GPU, or nothing."""
    here = release(device.compute_capability)
    if info.options.hardware_compatible and here >= AMPERE:
        return ""
    if not info.built_for or device.compute_capability in info.built_for:
        return ""
    built = " and ".join(info.built_for)
    return f"it was compiled for compute capability {built}, and {device.name} has {device.compute_capability}"


def inspect(trt: Any, engine: Any) -> Inspection:
    """What became of the graph, from a deserialised engine: only where there is a GPU."""
    told = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    return Inspection(read_layers(told), int(engine.num_aux_streams), int(engine.device_memory_size_v2))


def read_layers(told: str) -> tuple[EngineLayer, ...]:
    """The layers in what the inspector tells; none where it is in no form that is known, which harms no engine."""
    try:
        return tuple(layers(json.loads(told, strict=False)))
    except (AttributeError, LookupError, TypeError, ValueError):
        return ()


def layers(told: Mapping[str, Any]) -> Iterator[EngineLayer]:
    """The layers in the inspector's JSON, of an engine built with ProfilingVerbosity.DETAILED.

    10.x says `Format/Datatype` of a tensor, 11.x `DataType` and `Format` apart (NVIDIA, "Migrating IEngineInspector
    Usage from TensorRT 10.x to 11.x").
    """
    for layer in told["Layers"]:
        if isinstance(layer, str):
            yield EngineLayer(layer, "", (), (), ())
            continue
        nodes = dict.fromkeys(ONNX_NODE.findall(layer.get("Metadata", "")))
        inputs, outputs = (types(layer.get(side, ())) for side in ("Inputs", "Outputs"))
        yield EngineLayer(layer["Name"], layer.get("LayerType", ""), outputs, inputs, tuple(nodes))


def types(tensors: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    fields = ("DataType", "Datatype", "Format/Datatype", "Format/DataType")
    return tuple(str(next((tensor[field] for field in fields if field in tensor), "unknown")) for tensor in tensors)


def nodes_in_int8(inspection: Inspection) -> frozenset[str]:
    """The ONNX nodes of layers that read int8, in every profile; none of an inspection whose layers name no nodes."""
    by_profile: dict[int, set[str]] = {}
    for layer in inspection.layers:
        found = by_profile.setdefault(in_profile(layer.name)[1], set())
        if any("int8" in one.lower() for one in layer.inputs):
            found.update(in_profile(node)[0] for node in layer.nodes)
    return frozenset(set.intersection(*by_profile.values())) if by_profile else frozenset()
