"""Which values are computed in the same way from the same inputs, up to the numbers in their weights.

Two values have one signature where their whole ancestries have the same operators, attributes, constants' shapes and
integers (a shape, an index, an axis), and come from the same graph inputs. Whatever draws random numbers or holds a
subgraph is like nothing but itself.
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
    """The signature of every value of a graph; a new one is made after an edit."""

    def __init__(self, graph: ir.Graph) -> None:
        self.numbers: dict[Hashable, Signature] = {}
        self.known: dict[ir.Value, Signature] = {}
        for node in graph:
            key = (node_key(node), tuple(self.of(value) for value in node.inputs))
            for index, value in enumerate(node.outputs):
                self.known[value] = self.number((key, index))

    def of(self, value: ir.Value | None) -> Signature:
        if value is None:
            return MISSING
        if value not in self.known:
            self.known[value] = self.number(leaf_key(value))
        return self.known[value]

    def number(self, key: Hashable) -> Signature:
        return self.numbers.setdefault(key, len(self.numbers))


def leaf_key(value: ir.Value) -> Hashable:
    """The key of what no node of the graph computes: by identity, but for a constant."""
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
        # The bytes of text would be addresses.
        entries = array.tolist() if array.dtype.kind == "O" else array.tobytes().hex()
        return f"{attribute.value.dtype} {array.shape} {entries}"
    value = attribute.value
    return f"{attribute.type} {tuple(value) if isinstance(value, list | tuple) else value!r}"


def why_unique(node: ir.Node) -> str | None:
    """Why this node is like no other, or None."""
    if node.op_type in RANDOM:
        return f"{node.op_type} draws random numbers"
    if any(attr.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for attr in node.attributes.values()):
        return f"{node.op_type} holds a subgraph"
    return None


def domain(node: ir.Node) -> str:
    return "" if node.domain == "ai.onnx" else node.domain


def first_difference(value: ir.Value, other: ir.Value, signatures: Signatures) -> tuple[ir.Node | None, str]:
    """Where `value` is first computed in another way than `other`, seen from the end: (node, what differs there)."""
    reader: ir.Node | None = None
    while True:
        node, twin = value.producer(), other.producer()
        if node is None or twin is None or const(value) is not None or const(other) is not None:
            return reader or node, f"reads {told(value)} where another branch reads {told(other)}"
        if node_key(node) != node_key(twin):
            return node, node_difference(node, twin)
        reader = node
        unlike = [pair for pair in zip(node.inputs, twin.inputs, strict=False) if len({*map(signatures.of, pair)}) == 2]
        if len(node.inputs) != len(twin.inputs) or not unlike or None in unlike[0]:
            return node, f"has other inputs than {twin.name}"
        left, right = unlike[0]
        assert left is not None
        assert right is not None
        value, other = left, right


def node_difference(node: ir.Node, twin: ir.Node) -> str:
    for unique in (node, twin):
        if reason := why_unique(unique):
            return reason
    if is_kept(node.name) != is_kept(twin.name):
        return (
            f"stays in float32, other than {twin.name}"
            if is_kept(node.name)
            else f"does not stay in float32, other than {twin.name}"
        )
    if (domain(node), node.op_type) != (domain(twin), twin.op_type):
        return f"is a {node.op_type} where another branch has the {twin.op_type} {twin.name}"
    for name in sorted({*node.attributes, *twin.attributes}):
        mine, theirs = node.attributes.get(name), twin.attributes.get(name)
        if mine is None or theirs is None or attribute_key(mine) != attribute_key(theirs):
            values = [None if attribute is None else attribute.value for attribute in (mine, theirs)]
            return f"{name} is {values[0]} where {twin.name} has {values[1]}"
    return f"differs from {twin.name}"


def told(value: ir.Value) -> str:
    array = const(value)
    if array is None:
        return f"{value.name} {list(dims(value) or ())}"
    kind = f"{array.dtype} {list(array.shape)}"
    return f"the constant {array.tolist()}" if array.dtype.kind in "iub" and array.size <= 8 else f"a constant {kind}"
