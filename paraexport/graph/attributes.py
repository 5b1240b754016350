"""Reads the attributes of a node by type, so that a pass never works with an unexpected value."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from paraexport.graph.refusal import Refused

Type = ir.AttributeType


def attribute(node: ir.Node, name: str, default: object = None) -> object:
    """The value of any type, or the default if the node does not have the attribute.

    Raises:
        Refused: the attribute refers to one of the function around the node.
    """
    return value_of(node, name, default)


def int_of(node: ir.Node, name: str, default: int | None = None) -> int:
    """An integer.

    Raises:
        Refused: the attribute has another type, or is missing and has no default.
    """
    return int(value_of(node, name, default, Type.INT))


def float_of(node: ir.Node, name: str, default: float | None = None) -> float:
    """A number; refused as in `int_of`."""
    return float(value_of(node, name, default, Type.FLOAT))


def ints_of(node: ir.Node, name: str, default: tuple[int, ...] | None = None) -> tuple[int, ...]:
    """Several integers; refused as in `int_of`."""
    return tuple(value_of(node, name, default, Type.INTS))


def axis_of(node: ir.Node, rank: int, default: int | None = None) -> int:
    """The attribute `axis`, counted from the front."""
    return counted(int_of(node, "axis", default), rank)


def counted(axis: int, rank: int) -> int:
    """An axis counted from the front: -1 becomes `rank` - 1.

    Raises:
        Refused: a value of this rank has no such axis.
    """
    if not -rank <= axis < rank:
        raise Refused(f"it names axis {axis}, but the value has {rank} axes")
    return axis % rank


def value_of(node: ir.Node, name: str, default: object, kind: Type | None = None) -> Any:
    given = node.attributes.get(name)
    if given is None:
        if default is None and kind is not None:
            raise Refused(f"{node.op_type} has no attribute {name}")
        return default
    if given.is_ref():
        raise Refused(f"the attribute {name} of {node.op_type} refers to an attribute of a function")
    if kind is not None and given.type != kind:
        raise Refused(f"the attribute {name} of {node.op_type} has the type {given.type.name}; expected {kind.name}")
    return given.value
