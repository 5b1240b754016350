"""Names the nodes of exported files after the modules in their metadata, if their own names do not show the branch."""

from __future__ import annotations

import ast
import itertools
from typing import TYPE_CHECKING

from paraexport.graph.free_names import FreeNames
from paraexport.graph.summary import BRANCH, all_nodes
from paraexport.model.tap_names import tap_name

if TYPE_CHECKING:
    import onnx

SCOPES = "pkg.torch.onnx.name_scopes"
"""Here torch's exporter stores the modules around a node, the outermost first, and the name of the node last."""
LONGEST = 10_000


def name_by_scope(model: onnx.ModelProto) -> None:
    """Rename the nodes of branches, in place: `node_MatMul_3` -> `branches.0/attention/query/MatMul`."""
    nodes = [*all_nodes(model.graph.node)]
    names = FreeNames(itertools.chain((node.name for node in nodes), *(node.output for node in nodes)))
    for node in nodes:
        if not BRANCH.search(node.name):
            text = next((entry.value for entry in node.metadata_props if entry.key == SCOPES), "")
            scope = tap_name(module_in(text))
            if BRANCH.search(f"{scope}/"):
                node.name = names.claim(f"{scope}/{node.op_type}")


def module_in(scopes: str) -> str:
    """The innermost module in the metadata `SCOPES` of a node: `branches.3.layers.1`; "" for the outermost one.

    Private modules of torch's exporter count for the module around them. Damaged metadata name no module.
    """
    try:
        names = ast.literal_eval(scopes) if 0 < len(scopes) < LONGEST else []
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return ""
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return ""
    paths = [name for name in names[:-1] if not name.startswith("_")]
    return paths[-1] if paths else ""
