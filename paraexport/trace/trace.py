"""Traces a module into an ONNX graph, and names every node, weight and value after its branch and layer.

Later stages read this canonical form: opset 23, with one `Attention` node for each attention; the batch is the only
symbolic axis; one `Sum` adds up the branches. The same model gives the same bytes.
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
from paraexport.graph.onnx_file import first_line, root_cause, save
from paraexport.graph.summary import RANDOM
from paraexport.model.spec import BATCH, INPUT, OUTPUT, Classifier
from paraexport.trace.attention import separate_attention
from paraexport.trace.endings import Ending, ending_of
from paraexport.trace.names import module_path, name_after_modules

OPSET = 23


@dataclass(frozen=True)
class TracedGraph:
    """A checked ONNX file with its inputs, outputs and last operators."""

    path: Path
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    export_s: float
    """The seconds of torch's own export."""
    ending: Ending
    """The last operators before the outputs."""


def trace(module: nn.Module, classifier: Classifier, path: Path, *, apart: bool = False) -> TracedGraph:
    """Write `module` to `path` as ONNX, images [batch, C, H, W] -> logits [batch, classes], both float32.

    Weights go to `path` + `.data` if they do not fit into one file, or with `apart`.

    Raises:
        TraceError: torch cannot export the module, the batch is not free, or the graph is not valid ONNX.
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
    # torch keeps the graph of its last export, and so the module's weights.
    for value in model.graph.initializers.values():
        value.const_value = None
    return TracedGraph(path, inputs, outputs, export_s, ending)


def export(module: nn.Module, classifier: Classifier) -> ir.Model:
    """The graph of torch's own export of `module`, with a symbolic batch."""
    # The batch is 2, because torch treats sizes 0 and 1 as constants.
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
            got=first_line(root_cause(error)),
            remedy="make the module traceable by torch.export: a free batch, no control flow that depends on values",
        ) from error
    assert program is not None
    return program.model


def refuse_random(graph: ir.Graph) -> None:
    """Raise a `TraceError` if a node draws random numbers. It names the first one."""
    for node in graph:
        if node.op_type in RANDOM:
            raise TraceError(
                "the module draws random numbers, so its outputs cannot be compared",
                where=node.name,
                expected="the same outputs in every run",
                got=node.op_type,
                remedy="remove this operation in eval mode",
            )


def merge_sums(graph: ir.Graph) -> None:
    """Replace every chain ((a + b) + c) + … of one module by one `Sum`, if nothing else reads its interim results.

    The terms keep their order, so the result is the same to the last bit.
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
    """Whether `value` is an interim result of the chain that ends in `last`.

    It must come from an Add of the same module and shape, and have one reader.
    """
    node = value.producer()
    if node is None or node.op_type != "Add" or len(value.uses()) != 1 or value.is_graph_output():
        return False
    if module_path(node) != module_path(last):
        return False
    shapes = [term.shape for term in (*node.inputs, *last.outputs) if term is not None]
    return all(shape is not None and shape == shapes[0] for shape in shapes)


def signature(graph: ir.Graph, classifier: Classifier) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
    """The inputs and outputs of the graph: float32 images [batch, C, H, W] -> logits [batch, classes].

    Raises:
        TraceError: the graph has others.
    """
    inputs, outputs = (tuple(map(tensor_info, values)) for values in (graph.inputs, graph.outputs))
    expected_in = (TensorInfo(INPUT, "float32", (BATCH, classifier.channels, *classifier.image_size)),)
    expected_out = (TensorInfo(OUTPUT, "float32", (BATCH, classifier.classes)),)
    for side, got, expected in (("input", inputs, expected_in), ("output", outputs, expected_out)):
        if got != expected:
            raise TraceError(
                f"the {side} of the traced graph differs from the model's",
                expected=describe(expected),
                got=describe(got),
                remedy="keep the batch free and at axis 0 everywhere: use images.shape[0] instead of len(images)",
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
    """Hide the exporter's messages about itself, such as a missing torchvision that it does not need."""
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
