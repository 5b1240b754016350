"""Module -> ONNX: one graph in which every node, weight and value is named after its branch and layer.

The graph is the canonical form that later stages read: opset 23 (one `Attention` node an attention), the batch the only
symbolic axis, one `Sum` where the branches meet, the same bytes for the same model.
"""

from __future__ import annotations

import contextlib
import io
import logging
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir
import torch
from onnx_ir.passes import common
from torch import nn

from paraexport.errors import TraceError
from paraexport.findings.graphs import TensorInfo
from paraexport.graph.onnx_file import save
from paraexport.graph.summary import RANDOM
from paraexport.model.spec import BATCH, INPUT, OUTPUT, Classifier
from paraexport.trace.attention import separate_attention
from paraexport.trace.endings import Ending, ending_of
from paraexport.trace.names import module_path, name_after_modules

OPSET = 23


@dataclass(frozen=True)
class Graph:
    """An ONNX file, checked, and what its callers must know of it."""

    path: Path
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    export_s: float
    """Seconds that torch's own export took."""
    ending: Ending
    """How the outputs are computed last."""


def trace(module: nn.Module, classifier: Classifier, path: Path, *, apart: bool = False) -> Graph:
    """Write `module` to `path` as ONNX, images [batch, C, H, W] -> logits [batch, classes], both float32.

    Weights go to `path` + `.data` where they do not fit one file, or with `apart`.

    Raises:
        TraceError: torch cannot export the module, the batch did not stay free, or the graph is not valid ONNX.
    """
    started = time.perf_counter()
    model = export(module, classifier)
    export_s = time.perf_counter() - started
    merge_sums(model.graph)
    name_after_modules(model.graph, {name for name, _ in module.named_parameters(remove_duplicate=False)})
    common.ClearMetadataAndDocStringPass()(model)
    model.producer_name, model.producer_version = "paraexport", None
    model.graph.name = "paraformer"
    refuse_random(model.graph)
    inputs, outputs = signature(model.graph, classifier)
    ending = ending_of(model.graph.outputs[0])
    save(model, path, apart=apart)
    # torch keeps the graph of its last export, and with it the module's weights.
    for value in model.graph.initializers.values():
        value.const_value = None
    return Graph(path, inputs, outputs, export_s, ending)


def export(module: nn.Module, classifier: Classifier) -> ir.Model:
    """Torch's own export of `module` with a symbolic batch; nothing else is done to the graph."""
    # A batch of 2: torch specialises sizes 0 and 1.
    images = torch.zeros(2, classifier.channels, *classifier.image_size)
    try:
        with quiet_exporter(), separate_attention(module), torch.no_grad():
            program = torch.onnx.export(
                module.eval(),
                (images,),
                dynamo=True,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=({0: torch.export.Dim(BATCH)},),
                external_data=False,
                verbose=False,
            )
    except Exception as error:
        raise TraceError(
            "torch cannot export this model to ONNX",
            where=type(module).__name__,
            got=one_line(root_cause(error)),
            remedy="the module must be traceable by torch.export with a free batch, without control flow on values",
        ) from error
    assert program is not None
    return program.model


def refuse_random(graph: ir.Graph) -> None:
    """Raise a `TraceError` that names the first node that draws random numbers."""
    for node in graph:
        if node.op_type in RANDOM:
            raise TraceError(
                "the module draws random numbers, so that nothing can be compared with it",
                where=node.name,
                expected="the same answer twice",
                got=node.op_type,
                remedy="leave it out in eval mode",
            )


def merge_sums(graph: ir.Graph) -> None:
    """Make one `Sum` of every chain ((a + b) + c) + … within one module whose interim results nobody else reads.

    The order of the terms is kept, so that the result is the same to the last bit.
    """
    inner: set[ir.Node] = set()
    for last in reversed(list(graph)):
        if last in inner or last.op_type != "Add":
            continue
        terms: list[ir.Value] = [value for value in last.inputs if value is not None]
        chain = [last]
        while (inside := terms[0].producer()) and is_inner_add(terms[0], last):
            terms[:1] = [value for value in inside.inputs if value is not None]
            chain.append(inside)
        if len(terms) < 3:
            continue
        inner.update(chain)
        total = ir.node("Sum", terms, metadata_props=dict(last.metadata_props))
        total.outputs[0].shape, total.outputs[0].type = last.outputs[0].shape, last.outputs[0].type
        graph.insert_after(last, total)
        ir.convenience.replace_all_uses_with(last.outputs[0], total.outputs[0], replace_graph_outputs=True)
        graph.remove(chain, safe=True)


def is_inner_add(value: ir.Value, last: ir.Node) -> bool:
    """Whether `value` is an interim result of the chain ending in `last`: an Add of its module and shape, read once."""
    node = value.producer()
    if node is None or node.op_type != "Add" or len(value.uses()) != 1 or value.is_graph_output():
        return False
    if module_path(node) != module_path(last):
        return False
    shapes = [term.shape for term in (*node.inputs, *last.outputs) if term is not None]
    return all(shape is not None and shape == shapes[0] for shape in shapes)


def signature(graph: ir.Graph, classifier: Classifier) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
    """The graph's inputs and outputs, which must be images [batch, C, H, W] -> logits [batch, classes] in float32."""
    inputs, outputs = (tuple(map(tensor_info, values)) for values in (graph.inputs, graph.outputs))
    expected_in = (TensorInfo(INPUT, "float32", (BATCH, classifier.channels, *classifier.image_size)),)
    expected_out = (TensorInfo(OUTPUT, "float32", (BATCH, classifier.classes)),)
    for side, got, expected in (("input", inputs, expected_in), ("output", outputs, expected_out)):
        if got != expected:
            raise TraceError(
                f"the traced graph has another {side} than the model",
                expected=describe(expected),
                got=describe(got),
                remedy="keep the batch free and at axis 0 throughout: write images.shape[0], not len(images)",
            )
    return inputs, outputs


def tensor_info(value: ir.Value) -> TensorInfo:
    dtype = value.dtype.name.lower() if value.dtype else "unknown"
    shape = tuple(axis if isinstance(axis, int) else str(axis.value) for axis in value.shape or ())
    return TensorInfo(value.name or "", {"float": "float32"}.get(dtype, dtype), shape)


def describe(tensors: tuple[TensorInfo, ...]) -> str:
    return ", ".join(f"{tensor.name} {tensor.dtype} {list(tensor.shape)}" for tensor in tensors)


@contextlib.contextmanager
def quiet_exporter() -> Iterator[None]:
    """Silence what the exporter says about itself (a torchvision it does not need, deprecations inside torch)."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stderr(io.StringIO()),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        disabled = logging.root.manager.disable
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(disabled)
            logger.setLevel(level)


def root_cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def one_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
