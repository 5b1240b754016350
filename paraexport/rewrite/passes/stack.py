"""Stacks branches: L alike branches that end in one sum become one branch on tensors with an axis of branches.

Identity 7: let y_l = f(x; θ_l) for l = 1 … L, with the same f. Every operator of f treats its samples alike, so it can
compute [y_1, …, y_L] at once:

- A product by constants becomes the batched product of [L, B·N, K] by [L, K, J], or x [W_1 | … | W_L] for a shared x.
- Attention, softmax and products of two activations get L·B samples, or L·h heads.
- An elementwise operator broadcasts constants [L, 1, J].
- LN(x; γ_l, β_l) = LN(x; 1, 0) ⊙ γ_l + β_l.

The sum over the branches is computed term by term, Σ (a_l + b_l) = Σ a_l + Σ b_l. Products by constants become one deep
product, Σ h_l W_l = [h_1 | … | h_L] [W_1; …; W_L] (identity 6). Constants are added by the pass. Other terms become a
ReduceSum. The number of nodes does not depend on L. With `deep=False`, for low precision, there is no deep product, and
the branches are summed in float32 by a ReduceSum.

The pass applies to groups of at least two terms of a sum that are alike (`stacking.signatures`) and contain a product.
It refuses a term that is not like the others, an operator without a rule, results that are read outside of the
branches, and new weights above a limit of memory.
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
from paraexport.rewrite.patterns.sums import ancestry, branch_leaves, is_sum, look_like_branches, sum_nodes
from paraexport.rewrite.stacking import gathered_sums
from paraexport.rewrite.stacking.arrangements import NodeInput, StackingPlan, materialise
from paraexport.rewrite.stacking.batching import BranchValues, RefusedAt, StackingWalk
from paraexport.rewrite.stacking.batching_rules import RULES
from paraexport.rewrite.stacking.branch_sum import BranchSum
from paraexport.rewrite.stacking.signatures import Signatures, first_difference

NAME = "stack"
MINIMUM_OPSET = 14
"""The first opset in which Reshape has `allowzero`."""
MOST_BYTES = 2 * 2**30
"""The limit for new weights, unless the graph has more itself. A shared weight is stacked once for each branch."""


def apply(graph: ir.Graph, most_bytes: int | None = None, *, deep: bool = True) -> Applied:
    """Counts the stacked groups. Each group may have at most `most_bytes` of new weights.

    The default is 2 GiB, or the size of all weights of the graph if that is larger. First, a ReduceSum over stacked
    values becomes a Sum, even if nothing can be stacked afterwards.
    """
    applied = Applied(NAME)
    if opset_of(graph) < MINIMUM_OPSET:
        applied.refusals.append(f"graph: its opset is {opset_of(graph)}; expected at least {MINIMUM_OPSET}")
        return applied
    if most_bytes is None:
        most_bytes = max(MOST_BYTES, weights_bytes(graph))
    gathered_sums.apply(graph)
    clean(graph)
    visited: set[ir.Node] = set()
    signatures = Signatures(graph)
    for node in reversed(list(graph)):
        if node.graph is None or node in visited or not is_sum(node):
            continue
        total = result(node)
        visited.update(sum_nodes(total))
        if stacked := stack_sum(graph, total, signatures, applied, most_bytes, deep=deep):
            applied.times += stacked
            clean(graph)
            signatures = Signatures(graph)
    clean(graph)
    return applied


def stack_sum(
    graph: ir.Graph, total: ir.Value, signatures: Signatures, applied: Applied, most_bytes: int, *, deep: bool
) -> int:
    """Stack the groups of alike terms of one sum, and return the number of stacked groups."""
    root = total.producer()
    assert root is not None
    leaves = branch_leaves(total, signatures)
    groups: dict[int, list[ir.Value]] = {}
    for leaf in leaves:
        if const(leaf) is None and leaves.count(leaf) == 1:
            groups.setdefault(signatures.signature(leaf), []).append(leaf)
    alike = [group for group in groups.values() if len(group) > 1]
    if alike or look_like_branches([group[0] for group in groups.values()]):
        report_unlike(list(groups.values()), signatures, applied)
    plans = [plan_group(group, total, applied, most_bytes, deep=deep) for group in alike]
    sums = [branch_sum for branch_sum in plans if branch_sum is not None]
    if sums:
        stacked = {leaf for branch_sum in sums for leaf in branch_sum.leaves}
        rewire(graph, root, [leaf for leaf in leaves if leaf not in stacked], sums)
    return len(sums)


def report_unlike(groups: list[list[ir.Value]], signatures: Signatures, applied: Applied) -> None:
    """Report each term that is not like any other, and where it differs from the most common kind."""
    common = max(groups, key=len)
    below = ancestry(common[0])
    for group in groups:
        # A term that the others depend on is a skip around them, not a branch.
        if len(group) == 1 and group is not common and group[0].producer() not in below:
            node, reason = first_difference(group[0], common[0], signatures)
            applied.refusals.append(f"{node.name if node else group[0].name}: {reason}")


def plan_group(
    group: Sequence[ir.Value], total: ir.Value, applied: Applied, most_bytes: int, *, deep: bool
) -> BranchSum | None:
    """The sum of all terms of the group that can be stacked, or None. The others are reported."""
    leaves = tuple(group)
    while len(leaves) > 1:
        walk = StackingWalk(StackingPlan(len(leaves), most_bytes), RULES, deep=deep)
        try:
            branch_sum = BranchSum(walk, leaves)
        except RefusedAt as refusal:
            applied.refuse(refusal.node, refusal)
            return None
        except Refused as refusal:
            applied.refusals.append(f"{leaves[0].name}: {refusal}")
            return None
        if not walk.has_products:
            return None
        outside = read_outside(walk, branch_sum.inner, total)
        if not outside:
            return branch_sum
        for index, node in outside.items():
            applied.refuse(node, f"its result is also read outside of the branch that ends at {leaves[index].name}")
        leaves = tuple(leaf for index, leaf in enumerate(leaves) if index not in outside)
    return None


def read_outside(walk: StackingWalk, inner: Sequence[BranchValues], total: ir.Value) -> dict[int, ir.Node]:
    """The branches with a stacked node whose result is also read outside of them, and one such node of each."""
    merged = set().union(*walk.merged) | {node for values in inner for value in values if (node := value.producer())}
    inside = merged | sum_nodes(total)
    outside: dict[int, ir.Node] = {}
    for index, nodes in enumerate(walk.merged):
        for node in sorted(nodes, key=lambda node: node.name or ""):
            results = [value for value in node.outputs if value.uses() or value.is_graph_output()]
            all_inside = all(reader in inside for value in results for reader in readers(value))
            if not all_inside or any(value.is_graph_output() for value in results):
                outside.setdefault(index, node)
    return outside


def rewire(graph: ir.Graph, root: ir.Node, rest: Sequence[ir.Value], sums: Sequence[BranchSum]) -> None:
    """Replace the sum by the sum of the stacked groups and of the terms that stay."""
    total = result(root)
    terms: list[NodeInput] = [*rest, *(term for branch_sum in sums for term in branch_sum.terms)]
    values = materialise(graph, terms, root)
    op_type = "Add" if len(values) == 2 else "Sum"
    name = f"{BRANCHES}/{op_type}"
    new = values[0] if len(values) == 1 else add_node(root, op_type, values, name=name, shape=require_sizes(total))
    take_name(new, total)
    substitute(total, new)
