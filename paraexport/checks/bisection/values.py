"""The values of a graph as it is written, node by node on the CPU, and those that it can be cut at."""

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
    """The form of a value that a graph can be cut at."""

    dims: tuple[int, ...]
    """For one image."""
    axis: int
    """The one that grows with the batch, and as it does."""
    dtype: ir.DataType
    """Float32 or a half."""

    @property
    def columns(self) -> int:
        """Numbers for one image."""
        return math.prod(self.dims)

    @property
    def free(self) -> list[int]:
        """The shape for any batch, as Reshape takes it."""
        return [-1 if axis == self.axis else size for axis, size in enumerate(self.dims)]

    @property
    def branches(self) -> int:
        """As many as there are, where the value has a leading axis of them."""
        return self.dims[0] if self.dims else 0


class Reference:
    """A graph that runs as it is written; `model` has every rounding to half in it (`engine_or_graph.as_written`)."""

    def __init__(self, model: ir.Model) -> None:
        self.model = model

    def values(self, names: Sequence[str], images: Array) -> list[NDArray[np.generic]]:
        """The values of these names, those in half as float32."""
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
        """Values of forms that are known, by name; the images themselves may be among them."""
        source = self.model.graph.inputs[0].name or ""
        computed = [name for name in dict.fromkeys(names) if name != source]
        found = self.values(computed, images) if computed else []
        return {
            source: images,
            **{name: np.asarray(value, np.float32) for name, value in zip(computed, found, strict=True)},
        }


def forms(graph: ir.Graph, reference: Reference, images: Array) -> dict[str, Form]:
    """Every value that `graph` can be cut at, the images among them.

    It is of floating point and one of its axes grows with the batch, as two runs tell. Numbers that go through integers
    are none: between quantising and the product that reads it, a cut would make another graph of it. Nor is a product
    that waits for its bias, which runtimes fuse with it, whatever modules the two are named after.
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
        growing = len(grown) == 1 and math.prod(second) == 2 * math.prod(first)
        fused = is_op(value.producer(), "DequantizeLinear") or waits_for_bias(value)
        if growing and not fused:
            dtype = value.dtype if value.dtype in HALVES else ir.DataType.FLOAT
            forms[name] = Form(first, grown[0], dtype)
    return forms


def computed_from(source: ir.Value) -> set[ir.Value]:
    """The values with names that depend on `source`. The others, such as weights that a Cast widens, can be large."""
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
    """Whether the value is a product's, and all that reads it is the Add of a constant."""
    if not is_op(value.producer(), "MatMul") or not read_once(value):
        return False
    (reader,) = readers(value)
    return is_op(reader, "Add") and any(const(other) is not None for other in operands(reader))
