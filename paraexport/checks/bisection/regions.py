"""The regions of a graph: the stem, each branch, stacked branches, the sum and head; and finer ones inside of them.

Where names tell of branches, what rests on one branch and serves no other is of that branch. What several branches read
is the stem's, whatever branch it is named after; what several end in is the head's. Stacked branches share their nodes:
they are one region, told by names and by a leading axis of branches.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import onnx_ir as ir

from paraexport.checks.bisection.values import Form
from paraexport.graph.cost import STACKED_NAME
from paraexport.graph.naming import BRANCHES
from paraexport.graph.query import const, is_op, operands, readers
from paraexport.graph.summary import BRANCH

STEM, HEAD = "stem", "sum and head"
ITSELF = ", the rest"
"""Ends the name of the nodes of a module that are in none of the modules inside of it."""
Labels = dict[ir.Node, str]


def regions(graph: ir.Graph, forms: Mapping[str, Form]) -> Labels:
    """The region of every node: `stem`, `branches.3`, `branches.*` or `sum and head`."""
    serves: dict[ir.Node, set[str]] = {}
    for node in reversed(list(graph)):
        later = (serves.get(reader, set()) for value in node.outputs for reader in readers(value))
        serves[node] = set(own_branch(node)).union(*later)
    stacked = stacked_nodes(graph, forms)
    labels: Labels = {}
    for node in graph:
        before = {labels[maker] for value in operands(node) if (maker := value.producer()) is not None}
        inside = node in stacked or bool(own_branch(node)) or bool(before - {STEM})
        if node in stacked:
            labels[node] = BRANCHES
        elif not inside or (len(serves[node]) > 1 and before <= {STEM}):
            labels[node] = STEM
        elif len(serves[node]) == 1 and HEAD not in before:
            labels[node] = f"branches.{next(iter(serves[node]))}"
        else:
            labels[node] = HEAD
    return labels


def own_branch(node: ir.Node) -> list[str]:
    return BRANCH.findall(node.name or "")[:1]


def stacked_nodes(graph: ir.Graph, forms: Mapping[str, Form]) -> set[ir.Node]:
    """The nodes that compute all branches at once, on [L, …] or [L·B, …]."""
    named = [node for node in graph if STACKED_NAME.search(node.name or "")]
    counts = stack_sizes(named)
    found: set[ir.Node] = set()
    for node in named:
        form = forms.get(node.outputs[0].name or "")
        if form is not None and form.branches in counts and not moves_first_axis(node):
            found.add(node)
    return found


def moves_first_axis(node: ir.Node) -> bool:
    perm = node.attributes.get("perm")
    return is_op(node, "Transpose") and (perm is None or perm.as_ints()[0] != 0)


def stack_sizes(named: Iterable[ir.Node]) -> set[int]:
    """How many branches are stacked, as the weights [L, K, J] and biases [L, 1, J] of these nodes say."""
    arrays = (const(value) for node in named for value in operands(node))
    return {array.shape[0] for array in arrays if array is not None and array.ndim == 3 and array.shape[0] > 1}


def finer(nodes: Iterable[ir.Node], depth: int) -> Labels:
    """These nodes by the first `depth` levels of the module that their names tell: `branches.3/layers.1` for 2.

    Nodes of the module itself, between those inside of it, stay together: a runtime may fuse them.
    """
    return {node: levels(scope(node), depth) for node in nodes}


def levels(path: list[str], depth: int) -> str:
    return "/".join(path[:depth]) if len(path) >= depth else f"{'/'.join(path) or 'graph'}{ITSELF}"


def scope(node: ir.Node) -> list[str]:
    """`a/b/MatMul` -> [a, b]."""
    return (node.name or "").split("/")[:-1]
