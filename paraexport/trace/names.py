"""Names for a traced graph, taken from the modules that its nodes came from.

The node of a query projection is called `branches.3/layers.1/attention/query/MatMul`, its weight
`branches.3/layers.1/attention/query/weight`, and the value that a module returns has the module's name, which is
the name of its tap (`paraexport.model.taps`). So values of the graph and of PyTorch are compared by name alone.
"""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator

import onnx_ir as ir

from paraexport.model.taps import tap_name

SCOPES = "pkg.torch.onnx.name_scopes"
"""Where torch's exporter notes a node's modules from the outermost in, and the node's own name last."""


def name_after_modules(graph: ir.Graph, parameters: set[str]) -> None:
    """Rename every node, initializer and value of `graph`; inputs and outputs keep their names.

    `parameters` are the module's parameter paths: an initializer that still has one is named after it.
    """
    order = {node: index for index, node in enumerate(graph)}
    modules = {node: module_path(node) for node in graph}
    fixed = {value.name for value in (*graph.inputs, *graph.outputs) if value.name}
    name_nodes(modules)
    name_values(graph, modules, Names(fixed))
    taken = Names({value.name for node in graph for value in node.outputs if value.name} | fixed)
    wanted = {
        value: taken.unique(tap_name(name) if name in parameters else initializer_name(value, modules, order))
        for name, value in graph.initializers.items()
    }
    # Renaming one initializer to a name that another still has is refused, hence two rounds.
    for index, value in enumerate(wanted):
        value.name = f"unnamed.{index}"
    for value, name in wanted.items():
        value.name = name


class Names:
    """Hands out names, each once: `MatMul`, `MatMul_1`, `MatMul_2`, …"""

    def __init__(self, taken: set[str]) -> None:
        self.taken = set(taken)
        self.counts: dict[str, int] = {}

    def unique(self, wanted: str) -> str:
        name = wanted
        while name in self.taken:
            self.counts[wanted] = self.counts.get(wanted, 0) + 1
            name = f"{wanted}_{self.counts[wanted]}"
        self.taken.add(name)
        return name


def module_path(node: ir.Node) -> str:
    """`branches.3.layers.1.attention` for a node of that module, `` for one of the outermost module."""
    scopes = [*ast.literal_eval(node.metadata_props.get(SCOPES, "[]"))]
    paths = [scope for scope in scopes[:-1] if not scope.startswith("_")]
    return paths[-1] if paths else ""


def name_nodes(modules: dict[ir.Node, str]) -> None:
    names = Names(set())
    for node, path in modules.items():
        node.name = names.unique(joined(tap_name(path), node.op_type))


def name_values(graph: ir.Graph, modules: dict[ir.Node, str], names: Names) -> None:
    returned = {value: path for path, value in module_outputs(modules)}
    for node in graph:
        for index, value in enumerate(node.outputs):
            if value.is_graph_output():
                continue
            suffix = "" if len(node.outputs) == 1 else f":{index}"
            value.name = names.unique(tap_name(returned[value]) if value in returned else f"{node.name}{suffix}")


def module_outputs(modules: dict[ir.Node, str]) -> Iterator[tuple[str, ir.Value]]:
    """Each module that hands exactly one value to the outside, the outermost first and the innermost last."""
    leaving: dict[str, set[ir.Value]] = {}
    for node, path in modules.items():
        for value in node.outputs:
            # What a subgraph reads goes to the outermost module.
            readers = [modules.get(reader, "") for reader, _ in value.uses()]
            for outer in enclosing(path):
                if value.is_graph_output() or not all(is_inside(reader, outer) for reader in readers):
                    leaving.setdefault(outer, set()).add(value)
    for path in sorted(leaving, key=lambda path: path.count(".")):
        if len(leaving[path]) == 1:
            yield path, next(iter(leaving[path]))


def initializer_name(value: ir.Value, modules: dict[ir.Node, str], order: dict[ir.Node, int]) -> str:
    """`<module>/weight`, `/bias`, `/shape`, …: a weight has its first reader's module, the rest all readers'."""
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


def joined(scope: str, name: str) -> str:
    return f"{scope}/{name}" if scope else name
