"""Attributes of a node by their type, so that a pass never works with a value that it does not expect."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from paraexport.graph.refusal import Refused

Type = ir.AttributeType


def attribute(node: ir.Node, name: str, default: object = None) -> object:
    """Its value, whatever its type, or the default where it is not given.

    Raises:
        Refused: the function around the node is to give it.
    """
    return value_of(node, name, default)


def int_of(node: ir.Node, name: str, default: int | None = None) -> int:
    """An integer.

    Raises:
        Refused: it is not given and has no default, or is no integer.
    """
    return int(value_of(node, name, default, Type.INT))


def float_of(node: ir.Node, name: str, default: float | None = None) -> float:
    """A number; Refused as in `int_of`."""
    return float(value_of(node, name, default, Type.FLOAT))


def ints_of(node: ir.Node, name: str, default: tuple[int, ...] | None = None) -> tuple[int, ...]:
    """Several integers; Refused as in `int_of`."""
    return tuple(value_of(node, name, default, Type.INTS))


def axis_of(node: ir.Node, rank: int, default: int | None = None) -> int:
    """The attribute `axis`, counted from the front."""
    return counted(int_of(node, "axis", default), rank)


def counted(axis: int, rank: int) -> int:
    """An axis counted from the front.

    Raises:
        Refused: a value of this rank has no such axis.
    """
    if not -rank <= axis < rank:
        raise Refused(f"axis {axis} of a value with {rank} axes")
    return axis % rank


def value_of(node: ir.Node, name: str, default: object, kind: Type | None = None) -> Any:
    given = node.attributes.get(name)
    if given is None:
        if default is None and kind is not None:
            raise Refused(f"{node.op_type} has no attribute {name}")
        return default
    if given.is_ref():
        raise Refused(f"a function is to give {node.op_type} its {name}")
    if kind is not None and given.type != kind:
        raise Refused(f"the attribute {name} of {node.op_type} is {given.type.name}, not {kind.name}")
    return given.value
