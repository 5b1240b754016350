"""Computes the values of a graph node by node on the CPU, and finds those at which it can be cut."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from paraexport.graph.query import const, is_op, operands, read_once, readers
from paraexport.precision.half.cast_insertion import cast_node
from paraexport.targets.ort.probe import open_probe

Array = NDArray[np.float32]
HALVES = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


@dataclass(frozen=True)
class Form:
    """The shape and type of a value at which a graph can be cut."""

    dims: tuple[int, ...]
    """The shape for one image."""
    axis: int
    """The axis that grows in proportion to the batch."""
    dtype: ir.DataType
    """float32, float16 or bfloat16."""

    @property
    def columns(self) -> int:
        """How many numbers the value has for one image."""
        return math.prod(self.dims)

    @property
    def free(self) -> list[int]:
        """The target shape of a Reshape, for any batch."""
        return [-1 if axis == self.axis else size for axis, size in enumerate(self.dims)]

    @property
    def branches(self) -> int:
        """The number of branches, if the first axis of the value counts branches."""
        return self.dims[0] if self.dims else 0


class ReferenceGraph:
    """A graph that runs node by node.

    `model` contains every rounding to half precision (`engine_or_graph.load_with_rounding`).
    """

    def __init__(self, model: ir.Model) -> None:
        self.model = model

    def values(self, names: Sequence[str], images: Array) -> list[NDArray[np.generic]]:
        """The values of these names. Those in half precision come as float32."""
        model = self.model.clone()
        computed = {value.name: value for node in model.graph for value in node.outputs}
        wanted = [*names]
        for index, name in enumerate(names):
            value = computed.get(name)
            if value is not None and value.dtype in HALVES:
                wanted[index] = f"{name}/wide"
                model.graph.append(cast_node(value, ir.DataType.FLOAT, wanted[index]))
        with open_probe(model, wanted, optimised=False) as run:
            return [np.asarray(value) for value in run(images)]

    def floats(self, names: Iterable[str], images: Array) -> dict[str, Array]:
        """Values at which the graph can be cut, by name. `names` may contain the images."""
        source = self.model.graph.inputs[0].name or ""
        computed = [name for name in dict.fromkeys(names) if name != source]
        values = self.values(computed, images) if computed else []
        return {
            source: images,
            **{name: np.asarray(value, np.float32) for name, value in zip(computed, values, strict=True)},
        }


def forms(graph: ir.Graph, reference: ReferenceGraph, images: Array) -> dict[str, Form]:
    """Every value at which `graph` can be cut, by name, with the images.

    Such a value is in floating point, and one of its axes grows with the batch; two runs show this. There are two
    exceptions. A dequantised value is none, because a cut between quantisation and the product that reads it would
    change what runtimes compute. A product before the Add of its bias is none either, because runtimes fuse the two.
    """
    source = graph.inputs[0]
    dependent = computed_from(source)
    computed = {value.name or "": value for node in graph for value in node.outputs if value in dependent}
    first_shapes, second_shapes = (
        shapes_of_floats(reference.values([*computed], np.resize(images, (size, *images.shape[1:])))) for size in (1, 2)
    )
    forms = {source.name or "": Form((1, *images.shape[1:]), 0, ir.DataType.FLOAT)}
    for (name, value), first, second in zip(computed.items(), first_shapes, second_shapes, strict=True):
        if first is None or second is None or len(first) != len(second):
            continue
        grown = [axis for axis, sizes in enumerate(zip(first, second, strict=True)) if len(set(sizes)) > 1]
        # An axis could also grow in another way, as a Concat of the batch with a constant does.
        growing = len(grown) == 1 and math.prod(second) == 2 * math.prod(first)
        fused = is_op(value.producer(), "DequantizeLinear") or waits_for_bias(value)
        if growing and not fused:
            dtype = value.dtype if value.dtype in HALVES else ir.DataType.FLOAT
            forms[name] = Form(first, grown[0], dtype)
    return forms


def computed_from(source: ir.Value) -> set[ir.Value]:
    """The named values that depend on `source`. Others are left out: cast weights, for instance, can be large."""
    pending, dependent = [source], set[ir.Value]()
    while pending:
        for reader in readers(pending.pop()):
            new = [value for value in reader.outputs if value.name and value not in dependent]
            dependent.update(new)
            pending += new
    return dependent


def shapes_of_floats(values: Iterable[NDArray[np.generic]]) -> list[tuple[int, ...] | None]:
    """The shape of each value that is float32; None for others."""
    return [value.shape if value.dtype == np.float32 else None for value in values]


def waits_for_bias(value: ir.Value) -> bool:
    """Whether the value is a product whose only reader is the Add of a constant."""
    if not is_op(value.producer(), "MatMul") or not read_once(value):
        return False
    (reader,) = readers(value)
    return is_op(reader, "Add") and any(const(operand) is not None for operand in operands(reader))
