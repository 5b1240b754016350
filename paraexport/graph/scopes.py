"""Names the nodes of exported files after the modules in their metadata, if their own names do not show the branch."""

from __future__ import annotations

import ast
import itertools
import re
from typing import TYPE_CHECKING

from paraexport.graph.free_names import FreeNames
from paraexport.graph.summary import BRANCH, all_nodes

if TYPE_CHECKING:
    import onnx

SCOPES = "pkg.torch.onnx.name_scopes"
"""Here torch's exporter stores the modules around a node, the outermost first, and the name of the node last."""
INSIDE = re.compile(r"\.(?!\d+(?:\.|$))")
"""The dots of a module path that do not come before a number."""
LONGEST = 10_000


def name_by_scope(model: onnx.ModelProto) -> None:
    """Rename the nodes of branches, in place: `node_MatMul_3` -> `branches.0/attention/query/MatMul`."""
    nodes = [*all_nodes(model.graph.node)]
    names = FreeNames(itertools.chain((node.name for node in nodes), *(node.output for node in nodes)))
    for node in nodes:
        scope = "" if BRANCH.search(node.name) else scope_of(node)
        if BRANCH.search(f"{scope}/"):
            node.name = names.claim(f"{scope}/{node.op_type}")


def scope_of(node: onnx.NodeProto) -> str:
    """`branches.3/layers.1/attention` for a node of that module; "" if the metadata do not contain it."""
    text = next((entry.value for entry in node.metadata_props if entry.key == SCOPES), "")
    try:
        scopes = ast.literal_eval(text) if 0 < len(text) < LONGEST else []
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return ""
    if not isinstance(scopes, list) or len(scopes) < 2 or not isinstance(scopes[-2], str):
        return ""
    return INSIDE.sub("/", scopes[-2])
