"""Whether a graph with a free batch does take every batch, and which node holds a fixed one if not."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import onnx

from paraexport.errors import InputError, on_one_line
from paraexport.graph import untrusted
from paraexport.graph.screen import is_external
from paraexport.optimizer.requirements import Source
from paraexport.optimizer.self_check import Run

ASKED = 2
TARGETED = ("Expand", "Reshape")
"""Nodes whose second input is a shape."""
WHAT = "its batch is free by name, and fixed inside"
REMEDY = "export it with a dynamic batch: in reshape and expand, -1 or x.shape[0] in place of the number"
MOST_TRIED = 4


def require(run: Run, source: Source) -> None:
    """Run the graph as it is in the file on two images.

    Raises:
        InputError: it does not run, or answers for another number of images.
    """
    try:
        answers = run(images(source, ASKED))
    except InputError as error:
        raise explained(run, source) or error from error
    graph = source.model.graph
    (batch,) = (value.shape[0] for value in graph.inputs if value.shape and value.name == source.images.name)
    for value, answer in zip(graph.outputs, answers, strict=True):
        if value.shape and value.shape[0] == batch and answer.shape[0] != ASKED:
            got = f"output {value.name} has {answer.shape[0]} rows for a batch of {ASKED}{culprit(source)}"
            raise InputError(WHAT, where=source.path, expected="a row for each image", got=got, remedy=REMEDY)


def images(source: Source, batch: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(0).standard_normal((batch, *source.images.shape), np.float32)


def explained(run: Run, source: Source) -> InputError | None:
    """The error for a graph that runs with another batch; None where it runs with none that is likely."""
    likely = [1, *(target[0] for _, target in fixed_targets(source) if target and 0 < target[0] <= 64)]
    for batch in [*dict.fromkeys(likely)][:MOST_TRIED]:
        try:
            run(images(source, batch))
        except InputError:
            continue
        got = f"it runs with a batch of {batch} and not of {ASKED}{culprit(source, batch)}"
        return InputError(WHAT, where=source.path, expected="any batch", got=got, remedy=REMEDY)
    return None


def culprit(source: Source, batch: int = 1) -> str:
    """A clause on the first node that asks for a shape with this batch."""
    for name, target in fixed_targets(source):
        if len(target) > 1 and target[0] == batch:
            return f"; {name} asks for the shape {target}"
    return ""


def fixed_targets(source: Source) -> Iterator[tuple[str, list[int]]]:
    """The nodes of the file that ask for a constant shape, and that shape."""
    graph = untrusted.read(source.path).graph
    known = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "value":
                known[node.output[0]] = attribute.t
        if node.op_type not in TARGETED or len(node.input) < 2 or (tensor := known.get(node.input[1])) is None:
            continue
        if is_external(tensor) or math.prod(tensor.dims) > 16:
            continue
        yield on_one_line(node.name or node.op_type), [int(size) for size in onnx.numpy_helper.to_array(tensor).ravel()]
