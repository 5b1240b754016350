"""Finds values that are computed in the same way from the same inputs. Only the numbers in their weights may differ.

Two values have the same signature if everything that they depend on agrees: operators, attributes, shapes of constants,
integer constants (a shape, an index, an axis) and graph inputs. Floating-point constants may differ: they are the
weights of the branches. Integers may not, because they decide what a node does. A node that draws random numbers or
holds a subgraph is not like any other.
"""

from __future__ import annotations

from collections.abc import Hashable

import onnx_ir as ir

from paraexport.graph.naming import is_kept
from paraexport.graph.query import const
from paraexport.graph.shapes import dims
from paraexport.graph.summary import RANDOM

MISSING = -1
Signature = int


class Signatures:
    """The signature of every value of a graph. Make a new object after an edit of the graph.

    A signature is the number of a key: the key of a node and the signatures of its inputs. Inputs come before their
    readers in the graph, so one pass is enough, and two values are compared by one number, however deep they are.
    """

    def __init__(self, graph: ir.Graph) -> None:
        self.numbers: dict[Hashable, Signature] = {}
        self.known: dict[ir.Value, Signature] = {}
        for node in graph:
            key = (node_key(node), tuple(self.signature(value) for value in node.inputs))
            for index, value in enumerate(node.outputs):
                self.known[value] = self.number((key, index))

    def signature(self, value: ir.Value | None) -> Signature:
        if value is None:
            return MISSING
        if value not in self.known:
            self.known[value] = self.number(leaf_key(value))
        return self.known[value]

    def number(self, key: Hashable) -> Signature:
        return self.numbers.setdefault(key, len(self.numbers))


def leaf_key(value: ir.Value) -> Hashable:
    """The key of a value that no node computes. Constants have the same key if they agree, other values never do."""
    array = const(value)
    if array is None:
        return ("input", id(value))
    numbers = array.tobytes() if array.dtype.kind in "iub" else b""
    return ("constant", array.dtype.str, array.shape, numbers)


def node_key(node: ir.Node) -> Hashable:
    constant = const(node.outputs[0]) if node.op_type == "Constant" and len(node.outputs) == 1 else None
    if constant is not None:
        return leaf_key(node.outputs[0])
    if why_unique(node):
        return ("unique", id(node))
    attributes = tuple(sorted((name, attribute_key(node.attributes[name])) for name in node.attributes))
    return (domain(node), node.op_type, node.overload, attributes, len(node.outputs), is_kept(node.name))


def attribute_key(attribute: ir.Attr) -> str:
    if attribute.is_ref():
        return f"reference to {attribute.ref_attr_name}"
    if attribute.type == ir.AttributeType.TENSOR:
        array = attribute.value.numpy()
        # The bytes of an array of text are addresses, which differ from run to run.
        entries = array.tolist() if array.dtype.kind == "O" else array.tobytes().hex()
        return f"{attribute.value.dtype} {array.shape} {entries}"
    value = attribute.value
    return f"{attribute.type} {tuple(value) if isinstance(value, list | tuple) else value!r}"


def why_unique(node: ir.Node) -> str | None:
    """Why this node is not like any other, or None."""
    if node.op_type in RANDOM:
        return f"{node.op_type} draws random numbers"
    if any(attr.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for attr in node.attributes.values()):
        return f"{node.op_type} holds a subgraph"
    return None


def domain(node: ir.Node) -> str:
    return "" if node.domain == "ai.onnx" else node.domain


def first_difference(value: ir.Value, twin: ir.Value, signatures: Signatures) -> tuple[ir.Node | None, str]:
    """The last node at which `value` is computed in another way than `twin`: (node, the difference).

    The walk starts at the two values and goes back. Where the nodes agree, it follows the first pair of inputs with
    different signatures, because the difference must be behind such a pair.
    """
    reader: ir.Node | None = None
    while True:
        node, twin_node = value.producer(), twin.producer()
        if node is None or twin_node is None or const(value) is not None or const(twin) is not None:
            return reader or node, f"it reads {describe(value)}, but another branch reads {describe(twin)}"
        if node_key(node) != node_key(twin_node):
            return node, node_difference(node, twin_node)
        reader = node
        pairs = zip(node.inputs, twin_node.inputs, strict=False)
        unlike = [pair for pair in pairs if len({*map(signatures.signature, pair)}) == 2]
        if len(node.inputs) != len(twin_node.inputs) or not unlike or None in unlike[0]:
            return node, f"its inputs differ from those of {twin_node.name} in another branch"
        left, right = unlike[0]
        assert left is not None
        assert right is not None
        value, twin = left, right


def node_difference(node: ir.Node, twin: ir.Node) -> str:
    for unique in (node, twin):
        if reason := why_unique(unique):
            return reason
    if is_kept(node.name) != is_kept(twin.name):
        return (
            f"it stays in float32, but {twin.name} in another branch does not"
            if is_kept(node.name)
            else f"it does not stay in float32, but {twin.name} in another branch does"
        )
    if (domain(node), node.op_type) != (domain(twin), twin.op_type):
        return f"its operator is {node.op_type}, but that of {twin.name} in another branch is {twin.op_type}"
    for name in sorted({*node.attributes, *twin.attributes}):
        left, right = node.attributes.get(name), twin.attributes.get(name)
        if left is None or right is None or attribute_key(left) != attribute_key(right):
            values = [None if attribute is None else attribute.value for attribute in (left, right)]
            return f"its attribute {name} is {values[0]}, but that of {twin.name} in another branch is {values[1]}"
    return f"it differs from {twin.name} in another branch"


def describe(value: ir.Value) -> str:
    """A value for a message: its name and shape, or the contents of a constant."""
    array = const(value)
    if array is None:
        return f"{value.name} {list(dims(value) or ())}"
    kind = f"{array.dtype} {list(array.shape)}"
    return f"the constant {array.tolist()}" if array.dtype.kind in "iub" and array.size <= 8 else f"a constant {kind}"
