"""Cuts the last branches out of a traced graph. This is much faster than another trace of a smaller model."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
from onnx_ir.passes import common

from paraexport.errors import TraceError
from paraexport.graph.onnx_file import load, save
from paraexport.graph.query import is_op

SUM = "sum"
"""The module that adds up the branches. A trace names its node after it."""


def first_branches(traced: Path, count: int, path: Path) -> None:
    """Write the traced graph with only its first `count` branches to `path`: Σ_{l<k} branch_l(x).

    `traced` is the trace of a `ParaFormer`. The weights go to `path` + `.data`.

    Raises:
        TraceError: no sum over more than `count` branches was found.
    """
    model = load(traced)
    total = sum_over_branches(model.graph)
    if total is None or len(total.inputs) < count:
        raise TraceError("no sum over these branches", where=traced.name, expected=f"at least {count} terms")
    terms = list(total.inputs)[:count]
    if count == 1:
        (term,) = terms
        assert term is not None
        total.outputs[0].replace_all_uses_with(term)
        model.graph.remove(total, safe=True)
    else:
        operator = "Add" if count == 2 else "Sum"  # as in a trace
        smaller = ir.node(operator, terms, name=f"{SUM}/{operator}", outputs=[ir.Value(name=total.outputs[0].name)])
        smaller.outputs[0].shape, smaller.outputs[0].type = total.outputs[0].shape, total.outputs[0].type
        model.graph.insert_before(total, smaller)
        total.outputs[0].replace_all_uses_with(smaller.outputs[0])
        model.graph.remove(total, safe=True)
    common.RemoveUnusedNodesPass()(model)
    save(model, path, apart=True)


def sum_over_branches(graph: ir.Graph) -> ir.Node | None:
    """The node that adds up the branches. A trace of two branches has an Add."""
    return next((node for node in graph if is_op(node, "Sum", "Add") and module_of(node) == SUM), None)


def module_of(node: ir.Node) -> str:
    """The module in the name of a node: `sum/Sum` -> `sum`."""
    return (node.name or "").partition("/")[0]
