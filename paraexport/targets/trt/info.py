"""Reads and writes engine.json, and finds the reasons why an engine cannot run here."""

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
from paraexport.targets.trt.plan import in_profile
from paraexport.targets.versions import release

ENGINE, INFO = "model.engine", "engine.json"
ONNX_NODE = re.compile(r"\[ONNX Layer: ([^\]]*)\]")
AMPERE = (8, 0)


def write(folder: Path, info: EngineInfo) -> None:
    content = json.dumps(msgspec.to_builtins(info), indent=2, ensure_ascii=False)
    (folder / INFO).write_text(content + "\n", encoding="utf-8")


def read(folder: Folder) -> EngineInfo:
    """The facts of the engine in `folder`.

    Raises:
        BundleError: the engine or its engine.json is missing, or engine.json is malformed.
    """
    for name in (ENGINE, INFO):
        if not folder.has(name):
            raise BundleError(
                "there is no engine", where=folder.path, expected=f"{name} in it", remedy="build the bundle again"
            )
    content = folder.read(INFO)
    try:
        return msgspec.json.decode(content, type=EngineInfo)
    except (ValueError, RecursionError) as error:  # msgspec's own is a ValueError
        where, got = folder.path / INFO, on_one_line(error)
        raise BundleError("malformed", where=where, got=got, remedy="build the bundle again") from error


def obstacles(info: EngineInfo, version: str, device: Device | str, unusable: str) -> Iterator[str]:
    """Every reason, as one clause, why the engine cannot run with this version of its runtime on this device.

    `unusable` is the reason why no engine at all runs on the device; empty if there is none.
    """
    versions = f"it was compiled by {info.runtime} {info.version}, and {version} is here"
    if info.options.version_compatible:
        if release(version)[:2] < release(info.version)[:2]:
            yield f"{versions}: it runs on the same and later versions"
    elif version != info.version:
        yield f"{versions}: it runs only on the same version"
    if unusable:
        yield unusable
    elif isinstance(device, Device) and (reason := unfit(info, device)):
        yield reason


def unfit(info: EngineInfo, device: Device) -> str:
    """Why an engine does not run on a GPU; empty if it runs."""
    here = release(device.compute_capability)
    if info.options.hardware_compatible and here >= AMPERE:
        return ""
    if not info.built_for or device.compute_capability in info.built_for:
        return ""
    built = " and ".join(info.built_for)
    return f"it was compiled for compute capability {built}, and {device.name} has {device.compute_capability}"


def inspect(trt: Any, engine: Any) -> Inspection:
    """The layers and memory of a deserialised engine. This needs a GPU."""
    text = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    return Inspection(read_layers(text), int(engine.num_aux_streams), int(engine.device_memory_size_v2))


def read_layers(text: str) -> tuple[EngineLayer, ...]:
    """The layers in the inspector's JSON; none if its form is unknown, because the engine works all the same."""
    try:
        return tuple(layers(json.loads(text, strict=False)))
    except (AttributeError, LookupError, TypeError, ValueError):
        return ()


def layers(report: Mapping[str, Any]) -> Iterator[EngineLayer]:
    """The layers in the inspector's report about an engine that was built with ProfilingVerbosity.DETAILED.

    10.x writes `Format/Datatype` of a tensor, 11.x writes `DataType` and `Format` (NVIDIA, "Migrating IEngineInspector
    Usage from TensorRT 10.x to 11.x").
    """
    for layer in report["Layers"]:
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
    """The ONNX nodes in layers that read int8 in every profile; none if the layers do not name their nodes."""
    by_profile: dict[int, set[str]] = {}
    for layer in inspection.layers:
        nodes = by_profile.setdefault(in_profile(layer.name)[1], set())
        if any("int8" in tensor_type.lower() for tensor_type in layer.inputs):
            nodes.update(in_profile(node)[0] for node in layer.nodes)
    return frozenset(set.intersection(*by_profile.values())) if by_profile else frozenset()
