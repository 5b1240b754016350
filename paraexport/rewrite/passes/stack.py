"""Stacked branches: L isomorphic branches that meet in a sum become one with a leading branch axis.

Identity 7. Let y_l = f(x; θ_l) for l = 1 … L, with one f. Every operator of f treats its samples alike, so for
[y_1, …, y_L] it may run once on tensors that have an axis of branches: a product by constants is the batched product of
[L, B·N, K] by [L, K, J]; of a shared input it is x [W_1 | … | W_L]; attention, softmax and products of two activations
see L·B samples, or L·h heads; what works number by number broadcasts constants [L, 1, J]; and
LN(x; γ_l, β_l) = LN(x; 1, 0) ⊙ γ_l + β_l.

The sum over branches is taken term by term, Σ (a_l + b_l) = Σ a_l + Σ b_l: a product by constants is one deep product,
Σ h_l W_l = [h_1 | … | h_L] [W_1; …; W_L] (identity 6); constants are added up here; the rest is a ReduceSum.
The number of nodes is the same for every L. In low precision there is no deep product (`deep=False`): the branches are
added up in float32, as a ReduceSum.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from paraexport.graph.edit import add_node, clean, substitute, take_name
from paraexport.graph.naming import BRANCHES
from paraexport.graph.onnx_file import weights_bytes
from paraexport.graph.query import const, opset_of, readers, result
from paraexport.graph.refusal import Applied, Refused
from paraexport.graph.shapes import require_sizes
from paraexport.rewrite.patterns.sums import ancestry, branch_leaves, is_inner, is_sum, look_like_branches, tree
from paraexport.rewrite.stacking import gathered_sums
from paraexport.rewrite.stacking.arrangements import NodeInput, StackingPlan, materialise
from paraexport.rewrite.stacking.batching import BranchValues, RefusedAt, StackingWalk
from paraexport.rewrite.stacking.batching_rules import RULES
from paraexport.rewrite.stacking.branch_sum import BranchSum
from paraexport.rewrite.stacking.signatures import Signatures, first_difference

NAME = "stack"
MINIMUM_OPSET = 14
"""Since then Reshape has `allowzero`. Since 13 ReduceSum takes its axes as an input, and Softmax normalises one."""
MOST_BYTES = 2 * 2**30
"""Of new weights, where the graph has not more itself: weights that branches share are stacked once for each branch."""


def apply(graph: ir.Graph, most_bytes: int | None = None, *, deep: bool = True) -> Applied:
    """Stack every group of at least two alike terms of every sum, at most `most_bytes` of new weights each.

    By default that is 2 GiB, or what the weights of the graph have where they are larger. A ReduceSum over stacked
    branches becomes their Sum first, whatever follows.
    """
    applied = Applied(NAME)
    if opset_of(graph) < MINIMUM_OPSET:
        applied.refusals.append(f"graph: its opset is below {MINIMUM_OPSET}")
        return applied
    if most_bytes is None:
        most_bytes = max(MOST_BYTES, weights_bytes(graph))
    gathered_sums.apply(graph)
    clean(graph)
    seen: set[ir.Node] = set()
    signatures = Signatures(graph)
    for node in reversed(list(graph)):
        if node.graph is None or node in seen or not is_sum(node):
            continue
        total = result(node)
        seen.update(part for value in tree(total) if (part := value.producer()) and (value is total or is_inner(value)))
        if stacked := stack_sum(graph, total, signatures, applied, most_bytes, deep=deep):
            applied.times += stacked
            clean(graph)
            signatures = Signatures(graph)
    clean(graph)
    return applied


def stack_sum(
    graph: ir.Graph, total: ir.Value, signatures: Signatures, applied: Applied, most_bytes: int, *, deep: bool
) -> int:
    """Stack the groups of one sum; how many there were."""
    root = total.producer()
    assert root is not None
    leaves = branch_leaves(total, signatures)
    groups: dict[int, list[ir.Value]] = {}
    for leaf in leaves:
        if const(leaf) is None and leaves.count(leaf) == 1:
            groups.setdefault(signatures.signature(leaf), []).append(leaf)
    alike = [group for group in groups.values() if len(group) > 1]
    if alike or look_like_branches([group[0] for group in groups.values()]):
        report_odd(list(groups.values()), signatures, applied)
    plans = [plan_group(group, total, applied, most_bytes, deep=deep) for group in alike]
    done = [summed for summed in plans if summed is not None]
    if done:
        gone = {leaf for summed in done for leaf in summed.leaves}
        rewire(graph, root, [leaf for leaf in leaves if leaf not in gone], done)
    return len(done)


def report_odd(groups: list[list[ir.Value]], signatures: Signatures, applied: Applied) -> None:
    """Say of each term that is like no other where it differs from the most common kind."""
    common = max(groups, key=len)
    below = ancestry(common[0])
    for group in groups:
        # What the others rest on is a skip around them, no branch.
        if len(group) == 1 and group is not common and group[0].producer() not in below:
            node, reason = first_difference(group[0], common[0], signatures)
            applied.refusals.append(f"{node.name if node else group[0].name}: {reason}")


def plan_group(
    group: Sequence[ir.Value], total: ir.Value, applied: Applied, most_bytes: int, *, deep: bool
) -> BranchSum | None:
    """How to sum as many of these alike terms as can be stacked, or None; those that cannot are reported."""
    leaves = tuple(group)
    while len(leaves) > 1:
        walk = StackingWalk(StackingPlan(len(leaves), most_bytes), RULES, deep=deep)
        try:
            summed = BranchSum(walk, leaves)
        except RefusedAt as refusal:
            applied.refuse(refusal.node, refusal)
            return None
        except Refused as refusal:
            applied.refusals.append(f"{leaves[0].name}: {refusal}")
            return None
        if not walk.has_products:
            return None
        outside = read_outside(walk, summed.inner, total)
        if not outside:
            return summed
        for index, node in outside.items():
            applied.refuse(node, f"its result is read outside the branch, which ends in {leaves[index].name}")
        leaves = tuple(leaf for index, leaf in enumerate(leaves) if index not in outside)
    return None


def read_outside(walk: StackingWalk, inner: Sequence[BranchValues], total: ir.Value) -> dict[int, ir.Node]:
    """The branches in which a merged node's result is wanted elsewhere too, each with one such node."""
    merged = set().union(*walk.merged) | {node for values in inner for value in values if (node := value.producer())}
    sums = {node for value in tree(total) if (node := value.producer()) and (value is total or is_inner(value))}
    found: dict[int, ir.Node] = {}
    for index, nodes in enumerate(walk.merged):
        for node in sorted(nodes, key=lambda node: node.name or ""):
            results = [value for value in node.outputs if value.uses() or value.is_graph_output()]
            inside = all(reader in merged | sums for value in results for reader in readers(value))
            if not inside or any(value.is_graph_output() for value in results):
                found.setdefault(index, node)
    return found


def rewire(graph: ir.Graph, root: ir.Node, rest: Sequence[ir.Value], done: Sequence[BranchSum]) -> None:
    """Let the readers of the sum read what the plans compute, together with the terms that stay."""
    total = result(root)
    terms: list[NodeInput] = [*rest, *(term for summed in done for term in summed.terms)]
    values = materialise(graph, terms, root)
    op_type = "Add" if len(values) == 2 else "Sum"
    name = f"{BRANCHES}/{op_type}"
    new = values[0] if len(values) == 1 else add_node(root, op_type, values, name=name, shape=require_sizes(total))
    take_name(new, total)
    substitute(total, new)
