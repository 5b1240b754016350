"""Divides a graph into regions, the stem, each branch, the sum and head, and these into modules.

The names of nodes contain their branch. A node that serves one branch only belongs to that branch. A node that several
branches read belongs to the stem, even if its name contains a branch. A node that depends on several branches belongs
to the head. Stacked branches share their nodes, so they are one region. Their names, and a leading axis of branches,
identify them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import onnx_ir as ir

from paraexport.checks.bisection.values import Form
from paraexport.graph.cost import MERGED_NAME
from paraexport.graph.naming import BRANCHES
from paraexport.graph.query import const, is_op, operands, readers
from paraexport.graph.summary import BRANCH

STEM, HEAD = "stem", "sum and head"
ITSELF = ", the rest"
"""Suffix for the nodes of a module that are in none of its inner modules."""
Labels = dict[ir.Node, str]


def regions(graph: ir.Graph, forms: Mapping[str, Form]) -> Labels:
    """The region of every node: `stem`, `branches.3`, `branches.*` or `sum and head`."""
    serves: dict[ir.Node, set[str]] = {}
    # Backwards, so that the branches that read a node are known before the node itself.
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
    """The nodes that compute all branches at once, on values [L, …] or [L·B, …]."""
    named = [node for node in graph if MERGED_NAME.search(node.name or "")]
    counts = stack_sizes(named)
    stacked: set[ir.Node] = set()
    for node in named:
        form = forms.get(node.outputs[0].name or "")
        if form is not None and form.branches in counts and not moves_first_axis(node):
            stacked.add(node)
    return stacked


def moves_first_axis(node: ir.Node) -> bool:
    perm = node.attributes.get("perm")
    return is_op(node, "Transpose") and (perm is None or perm.as_ints()[0] != 0)


def stack_sizes(named: Iterable[ir.Node]) -> set[int]:
    """The numbers of branches that are stacked, from weights [L, K, J] and biases [L, 1, J] of these nodes."""
    arrays = (const(value) for node in named for value in operands(node))
    return {array.shape[0] for array in arrays if array is not None and array.ndim == 3 and array.shape[0] > 1}


def finer(nodes: Iterable[ir.Node], depth: int) -> Labels:
    """Label each node with the first `depth` levels of the module in its name: `branches.3/layers.1` for depth 2.

    The nodes of a module that are in none of its inner modules stay together: a runtime may fuse them.
    """
    return {node: levels(scope(node), depth) for node in nodes}


def levels(path: list[str], depth: int) -> str:
    return "/".join(path[:depth]) if len(path) >= depth else f"{'/'.join(path) or 'graph'}{ITSELF}"


def scope(node: ir.Node) -> list[str]:
    """`a/b/MatMul` -> [a, b]."""
    return (node.name or "").split("/")[:-1]
