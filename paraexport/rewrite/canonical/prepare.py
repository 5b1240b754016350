"""The first steps with a graph from elsewhere: constants are initializers, nodes have names, the opset is that of ours.

An Identity, and a Dropout outside of training, is its input.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator

import onnx_ir as ir
from onnx_ir.passes import common
from onnxscript.version_converter import ConvertVersionPass

from paraexport.rewrite.edit import Applied, clean, is_op, operands, substitute

NAME = "prepare"
BATCH = "batch"
OPSET = 23
"""Since then there is `Attention`."""
OLDEST_IR = 4
"""Before, every initializer had to be an input as well."""


def apply(model: ir.Model) -> Applied:
    """Counts the nodes that went, and each input that was an initializer."""
    before = len(model.graph) + len(model.graph.inputs)
    common.RemoveInitializersFromInputsPass()(model)
    model.ir_version = max(model.ir_version, OLDEST_IR)
    name_batch(model.graph)
    name_nodes(model.graph)
    constants_to_initializers(model)
    for node in tuple(model.graph):
        if is_op(node, "Dropout"):
            substitute(node.outputs[0], operands(node)[0])
    clean(model.graph)
    common.IdentityEliminationPass()(model)
    times = before - len(model.graph) - len(model.graph.inputs)
    raise_opset(model)
    name_nodes(model.graph)
    constants_to_initializers(model)
    return Applied(NAME, times)


def name_batch(graph: ir.Graph) -> None:
    """Give the free first axis of an input a name, by which it is known again further on."""
    for value in graph.inputs:
        if value.shape and isinstance(value.shape[0], ir.SymbolicDim) and value.shape[0].value is None:
            value.shape = ir.Shape([BATCH, *value.shape[1:]])


def constants_to_initializers(model: ir.Model) -> None:
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)


def raise_opset(model: ir.Model) -> None:
    if model.opset_imports[""] >= OPSET:
        return
    logger = logging.getLogger("onnxscript.version_converter")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        ConvertVersionPass(OPSET, fallback=True)(model)
    finally:
        logger.setLevel(level)


def name_nodes(graph: ir.Graph) -> None:
    """Name every node that has no name, or one that another has, after its first output."""
    taken = {node.name for node in graph}
    seen: set[str] = set()
    for node in graph:
        if not node.name or node.name in seen:
            wanted = node.outputs[0].name or node.op_type
            node.name = next(name for name in names_like(wanted) if name not in taken)
            taken.add(node.name)
        seen.add(node.name)


def names_like(name: str) -> Iterator[str]:
    yield name
    yield from (f"{name}_{number}" for number in itertools.count(1))
