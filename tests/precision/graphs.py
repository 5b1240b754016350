"""Writes graphs in half precision as a build does, and runs them."""

from __future__ import annotations

import copy
import functools
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

from paraexport.graph.refusal import Applied
from paraexport.model.reference import ParaFormer
from paraexport.model.spec import Spec
from paraexport.precision.half import conversion, cpu_emulation
from paraexport.precision.half.formats import HalfType
from paraexport.rewrite import LAYOUTS
from paraexport.rewrite.passes import deep, lower
from paraexport.trace.trace import trace
from tests.rewrite.graphs import SMALL

Images = NDArray[np.float32]
KINDS: tuple[HalfType, ...] = ("fp16", "bf16")


def spec_of(**fields: Any) -> Spec:
    return Spec(**{**vars(SMALL), **fields})


@functools.lru_cache
def traced(module: ParaFormer) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory() as folder:
        trace(module, module.spec, Path(folder) / "model.onnx")
        return onnx.load(Path(folder) / "model.onnx")


@functools.lru_cache
def float32_graph(
    module: ParaFormer, layout: str, *, deep_sum: bool = True, written_out: bool = True
) -> onnx.ModelProto:
    """The graph of a layout. Optionally the Sum over branches stays, and each Attention stays one node."""
    return arranged(traced(module), layout, deep_sum=deep_sum, written_out=written_out)


def arranged(
    proto: onnx.ModelProto, layout: str, *, deep_sum: bool = True, written_out: bool = True
) -> onnx.ModelProto:
    model = ir.from_proto(proto)
    for step in LAYOUTS[layout]:
        if deep_sum or step is not deep.apply:
            step(model.graph)
    if written_out:
        lower.apply(model)
    return ir.to_proto(model)


def scaled(module: ParaFormer, layout: str, factors: Mapping[str, float]) -> tuple[ParaFormer, onnx.ModelProto]:
    """Model and graph with all parameters whose name ends in a key times the factor."""
    large, proto = copy.deepcopy(module), onnx.ModelProto()
    proto.CopyFrom(traced(module))
    for ending, factor in factors.items():
        with torch.no_grad():
            for name, parameter in large.named_parameters():
                if name.endswith(ending):
                    parameter.mul_(factor)
        for tensor in proto.graph.initializer:
            if tensor.name.replace("/", ".").endswith(ending):
                array = numpy_helper.to_array(tensor) * np.float32(factor)
                tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return large, arranged(proto, layout)


def observed(proto: onnx.ModelProto, images: Images) -> dict[str, float]:
    """max |value| of everything that must be known, as ONNX Runtime computes it."""
    names = conversion.values_to_observe(ir.from_proto(proto).graph)
    computed = [name for name in names if name != "images"]
    shown = onnx.ModelProto()
    shown.CopyFrom(proto)
    del shown.graph.output[:]
    shown.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in computed)
    outputs = session(shown).run(computed, {"images": images})
    return {"images": float(np.abs(images).max())} | {
        name: float(np.abs(value).max()) for name, value in zip(computed, outputs, strict=True)
    }


def in_half(proto: onnx.ModelProto, kind: HalfType, largest: Mapping[str, float]) -> tuple[onnx.ModelProto, Applied]:
    model = ir.from_proto(proto)
    applied = conversion.convert(model.graph, kind, largest)
    converted = ir.to_proto(model)
    onnx.checker.check_model(converted, full_check=True)
    return converted, applied


def for_cpu(proto: onnx.ModelProto) -> onnx.ModelProto:
    """With every rounding written out, since ONNX Runtime leaves out those of fp16."""
    model = ir.from_proto(proto)
    for kind in KINDS:
        cpu_emulation.emulate_rounding(model.graph, kind)
    converted = ir.to_proto(model)
    onnx.checker.check_model(converted, full_check=True)
    return converted


def session(proto: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    # So that no rounding is optimised away.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def answers(proto: onnx.ModelProto, images: Images) -> Images:
    return np.asarray(session(for_cpu(proto)).run(None, {"images": images})[0])


def pytorch(module: torch.nn.Module, images: Images) -> Images:
    with torch.no_grad():
        return np.asarray(module(torch.from_numpy(images)).numpy())


def random_images(spec: Spec, batch: int = 7, seed: int = 0) -> Images:
    shape = (batch, spec.channels, *spec.image_size)
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
