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

from paraexport.graph.edit import can_stand_for, clean, substitute
from paraexport.graph.free_names import fresh
from paraexport.graph.query import const, input_of, is_op, operands, opset_of
from paraexport.graph.refusal import Applied, Refused
from paraexport.rewrite.atomic import refuse_library_errors

NAME = "prepare"
SUBGRAPHS = frozenset({ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS})
BATCH = "batch"
OPSET = 23
"""Since then there is `Attention`."""
OLDEST_OPSET = 13
OLDEST_IR = 4
"""Before, every initializer had to be an input as well; since then, one that is an input is only its default."""


def apply(model: ir.Model) -> Applied:
    """Counts the nodes that went, and each input that was an initializer.

    Raises:
        Refused: the graph has something that the steps after this one do not follow.
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
    """What keeps a graph from being brought to the form of a trace, or None."""
    if (version := opset_of(model.graph)) < OLDEST_OPSET:
        return f"it is of opset {version}, older than {OLDEST_OPSET}"
    if model.functions:
        return f"it has functions of its own, such as {next(iter(model.functions))[1]}"
    for node in model.graph:
        if any(given.type in SUBGRAPHS for given in node.attributes.values()):
            return f"{node.name or node.op_type}: {node.op_type} holds a subgraph"
    return None


def skip(node: ir.Node) -> None:
    """Let those who read the first output of a node read its input; of what is known of either, nothing is lost."""
    source, value = operands(node)[0], node.outputs[0]
    if is_op(node, "Identity") and not can_stand_for(source, value):
        return
    source.shape, source.type = source.shape or value.shape, source.type or value.type
    substitute(value, source)


def may_train(dropout: ir.Node) -> bool:
    """Whether it drops anything: where it is said to, or where that is known only at run time."""
    training = input_of(dropout, 2)
    told = const(training)
    return training is not None and (told is None or bool(told.any()))


def name_batch(graph: ir.Graph) -> None:
    """Give the free first axis of each input a name of its own, by which it is known again further on."""
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
    """Name every node that has no name, or one that another has, after its first output."""
    taken = {node.name for node in graph}
    seen: set[str] = set()
    for node in graph:
        if not node.name or node.name in seen:
            wanted = next((value.name for value in node.outputs if value.name), node.op_type)
            node.name = next(name for name in names_like(wanted) if name not in taken)
            taken.add(node.name)
        seen.add(node.name)


def names_like(name: str) -> Iterator[str]:
    yield name
    yield from (f"{name}_{number}" for number in itertools.count(1))
