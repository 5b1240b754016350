"""Prepares a graph of another exporter: constants become initializers, all nodes get names, the opset becomes 23.

An Identity, and a Dropout outside of training, is replaced by its input. Older opsets, functions and subgraphs are
refused.
"""

from __future__ import annotations

import logging

import onnx_ir as ir
from onnx_ir.passes import common
from onnxscript.version_converter import ConvertVersionPass

from paraexport.graph.edit import can_stand_for, clean, substitute
from paraexport.graph.free_names import fresh
from paraexport.graph.query import const, input_of, is_op, operands, opset_of
from paraexport.graph.refusal import Applied, Refused
from paraexport.rewrite.atomic import refuse_library_errors

NAME = "prepare"
SUBGRAPHS = frozenset({ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS})
BATCH = "batch"
OPSET = 23
"""The first opset with `Attention`."""
OLDEST_OPSET = 13
OLDEST_IR = 4
"""In older IR versions, every initializer had to be an input too. Since 4, such an initializer is only a default."""


def apply(model: ir.Model) -> Applied:
    """Counts the removed nodes, and the inputs that were only initializers.

    Raises:
        Refused: the later steps cannot follow this graph.
    """
    if reason := why_not(model):
        raise Refused(reason)
    before = len(model.graph) + len(model.graph.inputs)
    if model.ir_version < OLDEST_IR:
        common.RemoveInitializersFromInputsPass()(model)
        model.ir_version = OLDEST_IR
    name_batch(model.graph)
    name_nodes(model.graph)
    constants_to_initializers(model)
    for node in tuple(model.graph):
        if is_op(node, "Identity") or (is_op(node, "Dropout") and not may_train(node)):
            skip(node)
    clean(model.graph)
    times = before - len(model.graph) - len(model.graph.inputs)
    raise_opset(model)
    name_nodes(model.graph)
    constants_to_initializers(model)
    return Applied(NAME, times)


def why_not(model: ir.Model) -> str | None:
    """The reason why a graph cannot get the form of a trace, or None."""
    if (version := opset_of(model.graph)) < OLDEST_OPSET:
        return f"its opset is {version}; expected at least {OLDEST_OPSET}"
    if model.functions:
        return f"it has its own functions, such as {next(iter(model.functions))[1]}"
    for node in model.graph:
        if any(given.type in SUBGRAPHS for given in node.attributes.values()):
            return f"{node.name or node.op_type}: {node.op_type} holds a subgraph"
    return None


def skip(node: ir.Node) -> None:
    """Make the readers of the first output of a node read its input. The input keeps the shape and type of either."""
    source, value = operands(node)[0], node.outputs[0]
    if is_op(node, "Identity") and not can_stand_for(source, value):
        return
    source.shape, source.type = source.shape or value.shape, source.type or value.type
    substitute(value, source)


def may_train(dropout: ir.Node) -> bool:
    """Whether a Dropout may drop something: its input `training_mode` is true, or not constant."""
    training = input_of(dropout, 2)
    mode = const(training)
    return training is not None and (mode is None or bool(mode.any()))


def name_batch(graph: ir.Graph) -> None:
    """Give the free first axis of each input a name, if it has none. Later steps recognise the batch by it."""
    taken: set[str | None] = {
        size.value for value in graph.inputs for size in value.shape or () if isinstance(size, ir.SymbolicDim)
    }
    for value in graph.inputs:
        if value.shape and isinstance(value.shape[0], ir.SymbolicDim) and value.shape[0].value is None:
            name = fresh(BATCH, taken)
            taken.add(name)
            value.shape = ir.Shape([name, *value.shape[1:]])


def constants_to_initializers(model: ir.Model) -> None:
    with refuse_library_errors("its constants cannot be made initializers"):
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)


def raise_opset(model: ir.Model) -> None:
    if (version := opset_of(model.graph)) >= OPSET:
        return
    model.opset_imports.pop("ai.onnx", None)
    model.opset_imports[""] = version
    logger = logging.getLogger("onnxscript.version_converter")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with refuse_library_errors(f"it cannot be converted from opset {version} to {OPSET}"):
            ConvertVersionPass(OPSET, fallback=True)(model)
    finally:
        logger.setLevel(level)
    if model.opset_imports[""] != OPSET:
        raise Refused(f"it cannot be converted from opset {version} to {OPSET}")


def name_nodes(graph: ir.Graph) -> None:
    """Name a node after its first output, if it has no name, or the name of an earlier node."""
    taken = {node.name for node in graph}
    earlier: set[str] = set()
    for node in graph:
        if not node.name or node.name in earlier:
            wanted = next((value.name for value in node.outputs if value.name), node.op_type)
            node.name = fresh(wanted, taken)
            taken.add(node.name)
        earlier.add(node.name)
