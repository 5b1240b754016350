"""Checks that a graph with a free batch really takes every batch, and finds the node with a fixed one."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import onnx

from paraexport.errors import InputError, on_one_line
from paraexport.graph import untrusted
from paraexport.graph.screen import is_external
from paraexport.optimizer.requirements import OnnxSource
from paraexport.optimizer.self_check import Run

TRIED_BATCH = 2
TARGETED = ("Expand", "Reshape")
"""Nodes whose second input is a target shape."""
WHAT = "its input has a free batch, but a node inside fixes the batch"
REMEDY = "export it with a dynamic batch: use -1 or x.shape[0] in reshape and expand instead of a number"
MOST_TRIED = 4


def require(run: Run, source: OnnxSource) -> None:
    """Run the graph of the file on two images.

    Raises:
        InputError: it does not run, or its answers have another batch.
    """
    try:
        answers = run(images(source, TRIED_BATCH))
    except InputError as error:
        raise explain(run, source) or error from error
    graph = source.model.graph
    (batch,) = (value.shape[0] for value in graph.inputs if value.shape and value.name == source.images.name)
    for value, answer in zip(graph.outputs, answers, strict=True):
        if value.shape and value.shape[0] == batch and answer.shape[0] != TRIED_BATCH:
            got = (
                f"output {value.name} has {answer.shape[0]} rows for a batch of {TRIED_BATCH}{describe_culprit(source)}"
            )
            raise InputError(WHAT, where=source.path, expected="one row for each image", got=got, remedy=REMEDY)


def images(source: OnnxSource, batch: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(0).standard_normal((batch, *source.images.shape), np.float32)


def explain(run: Run, source: OnnxSource) -> InputError | None:
    """The error for a graph that only runs with another batch. None if it runs with no likely batch."""
    likely = [1, *(target[0] for _, target in fixed_targets(source) if target and 0 < target[0] <= 64)]
    for batch in [*dict.fromkeys(likely)][:MOST_TRIED]:
        try:
            run(images(source, batch))
        except InputError:
            continue
        got = f"it runs with a batch of {batch}, but not of {TRIED_BATCH}{describe_culprit(source, batch)}"
        return InputError(WHAT, where=source.path, expected="any batch", got=got, remedy=REMEDY)
    return None


def describe_culprit(source: OnnxSource, batch: int = 1) -> str:
    """A clause about the first node whose target shape contains this batch."""
    for name, target in fixed_targets(source):
        if len(target) > 1 and target[0] == batch:
            return f"; the target shape of {name} is {target}"
    return ""


def fixed_targets(source: OnnxSource) -> Iterator[tuple[str, list[int]]]:
    """The nodes of the file that have a constant target shape, and this shape."""
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
