"""Names the nodes, weights and values of a traced graph after the modules that they come from.

The node of a query projection is called `branches.3/layers.1/attention/query/MatMul`, and its weight
`branches.3/layers.1/attention/query/weight`. The value that a module returns has the name of the module, which is also
the name of its tap (`paraexport.model.taps`). So values of the graph and of PyTorch can be compared by name alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import onnx_ir as ir

from paraexport.graph.free_names import FreeNames
from paraexport.graph.naming import joined
from paraexport.graph.scopes import SCOPES, module_in
from paraexport.model.tap_names import tap_name


def name_after_modules(graph: ir.Graph, parameters: set[str]) -> None:
    """Rename every node, initializer and value of `graph`; inputs and outputs keep their names.

    `parameters` are the parameter paths of the module. An initializer with such a name gets its tap name.
    """
    order = {node: index for index, node in enumerate(graph)}
    modules = {node: module_path(node) for node in graph}
    fixed = {value.name for value in (*graph.inputs, *graph.outputs) if value.name}
    name_nodes(modules)
    name_values(graph, modules, FreeNames(fixed))
    names = FreeNames({value.name for node in graph for value in node.outputs if value.name} | fixed)
    wanted = {
        value: names.claim(tap_name(name) if name in parameters else initializer_name(value, modules, order))
        for name, value in graph.initializers.items()
    }
    # An initializer cannot take a name that another one still has. So all get temporary names first.
    for index, value in enumerate(wanted):
        value.name = f"unnamed.{index}"
    for value, name in wanted.items():
        value.name = name


def module_path(node: ir.Node) -> str:
    """`branches.3.layers.1.attention` for a node of that module, "" for a node of the outermost module."""
    return module_in(node.metadata_props.get(SCOPES, ""))


def name_nodes(modules: dict[ir.Node, str]) -> None:
    names = FreeNames(())
    for node, path in modules.items():
        node.name = names.claim(joined(tap_name(path), node.op_type))


def name_values(graph: ir.Graph, modules: dict[ir.Node, str], names: FreeNames) -> None:
    returned = {value: path for path, value in module_outputs(modules)}
    for node in graph:
        for index, value in enumerate(node.outputs):
            if value.is_graph_output():
                continue
            suffix = "" if len(node.outputs) == 1 else f":{index}"
            value.name = names.claim(tap_name(returned[value]) if value in returned else f"{node.name}{suffix}")


def module_outputs(modules: dict[ir.Node, str]) -> Iterator[tuple[str, ir.Value]]:
    """Each module that gives exactly one value to other modules, with this value; outer modules come first.

    If a module returns the value of an inner module, the inner name comes last and wins.
    """
    leaving: dict[str, set[ir.Value]] = {}
    for node, path in modules.items():
        for value in node.outputs:
            # A reader inside a subgraph counts as a node of the outermost module.
            readers = [modules.get(reader, "") for reader, _ in value.uses()]
            for outer in enclosing(path):
                if value.is_graph_output() or not all(is_inside(reader, outer) for reader in readers):
                    leaving.setdefault(outer, set()).add(value)
    for path in sorted(leaving, key=lambda path: path.count(".")):
        if len(leaving[path]) == 1:
            yield path, next(iter(leaving[path]))


def initializer_name(value: ir.Value, modules: dict[ir.Node, str], order: dict[ir.Node, int]) -> str:
    """`<module>/weight`, `/bias`, `/shape`, …

    The module of a weight or bias is that of its first reader. For other roles it is the module that all readers share.
    """
    uses = sorted((use for use in value.uses() if use.node in order), key=lambda use: (order[use.node], use.idx))
    readers = [modules[use.node] for use in uses]
    if not readers:
        return "constant" if value.uses() else "unused"
    role = initializer_role(uses[0].node, uses[0].idx)
    path = readers[0] if role in {"weight", "bias"} else common_module(readers)
    return joined(tap_name(path), role)


def initializer_role(node: ir.Node, index: int) -> str:
    operator = node.op_type
    if operator in {"MatMul", "Gemm", "Conv", "LayerNormalization"}:
        return "bias" if index == 2 else "weight"
    if operator == "Reshape":
        return "shape"
    if operator == "Add":
        return "bias"
    return "weight" if operator == "Mul" else "constant"


def common_module(paths: list[str]) -> str:
    levels = zip(*(path.split(".") for path in paths), strict=False)
    return ".".join(level[0] for level in itertools.takewhile(lambda level: len(set(level)) == 1, levels))


def enclosing(path: str) -> list[str]:
    """`a.b.c` -> `a`, `a.b`, `a.b.c`."""
    steps = path.split(".") if path else []
    return [".".join(steps[:count]) for count in range(1, len(steps) + 1)]


def is_inside(path: str, module: str) -> bool:
    return path == module or path.startswith(f"{module}.")
