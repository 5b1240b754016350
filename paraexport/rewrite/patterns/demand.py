"""Computing no more of a value than is read: the walk that early selection and early pooling share.

Backwards, every reader asks a value for a part along one axis or for the whole; where all ask for the same part and the
operator that makes the value can pass the question on to its inputs, it does (`plan`). Forwards, those operators are
fed with parts; from a value that is computed whole the part is cut, once (`rebuild`).
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from paraexport.graph.edit import add_constant, add_node, substitute
from paraexport.graph.naming import beside
from paraexport.graph.query import const, operands, result
from paraexport.graph.refusal import Refused
from paraexport.graph.shapes import dims

MINIMUM_OPSET = 18
"""Since then ReduceMean and Squeeze take their axes as an input, and Softmax normalises one axis."""


@dataclass(frozen=True)
class Part(abc.ABC):
    """`length` entries that stand for all entries of `axis`; the axis stays, so that ranks do."""

    axis: int
    length: int = 1

    def at(self, axis: int) -> Self:
        return dataclasses.replace(self, axis=axis)

    @abc.abstractmethod
    def of_array(self, array: NDArray[Any]) -> NDArray[Any]: ...

    @abc.abstractmethod
    def cut(self, value: ir.Value, before: ir.Node) -> ir.Value:
        """Insert what takes this part of `value`."""


@dataclass(frozen=True)
class Root:
    """What a node that keeps a part of its first input keeps, and whether it drops the axis."""

    part: Part
    squeeze: bool


Ask = Part | tuple[int, ...] | None
"""What a node that computes a part reads instead of the whole input: a part, other integers, or nothing at all."""
Asks = Mapping[int, Ask]
"""By the number of the input; one that is not mentioned is read whole."""
Rule = Callable[[ir.Node, Part], Asks]
"""What an operator asks for to compute a part of its result. Refused where it cannot."""


@dataclass
class Plan:
    roots: Mapping[ir.Node, Root]
    asks: dict[tuple[ir.Node, int], Ask] = field(default_factory=dict)
    parts: dict[ir.Value, Part] = field(default_factory=dict)
    """The values of which only a part will be computed."""
    blocked: dict[ir.Node, str] = field(default_factory=dict)
    """Nodes that are asked for a part and compute the whole, and why."""

    def wanted(self, value: ir.Value) -> Ask | Literal["whole"]:
        """What the readers of a value agree on."""
        asked: set[Ask | Literal["whole"]] = {self.asks.get((use.node, use.idx), "whole") for use in value.uses()}
        asked.discard(None)
        if value.is_graph_output() or len(asked) > 1:
            return "whole"
        return asked.pop() if asked else None

    def moves(self, root: ir.Node) -> bool:
        """Whether less is computed because `root` reads no more."""
        asked = self.asks.get((root, 0))
        return asked is not None and self.parts.get(operands(root)[0]) == asked

    def given(self, node: ir.Node) -> Iterator[tuple[int, Ask]]:
        """The inputs of `node` that are not read whole, by number."""
        return ((index, self.asks[node, index]) for index in range(len(node.inputs)) if (node, index) in self.asks)

    def reach(self, root: ir.Node) -> list[ir.Node]:
        """The nodes that compute a part because `root` reads no more."""
        pending, found = [operands(root)[0]], dict[ir.Node, None]()
        while pending:
            value = pending.pop()
            node = value.producer()
            if value in self.parts and node is not None and node not in found:
                found[node] = None
                inputs = (node.inputs[index] for index, asked in self.given(node) if isinstance(asked, Part))
                pending.extend(operand for operand in inputs if operand is not None)
        return list(found)

    def why_not(self, root: ir.Node) -> str:
        """Why the input of `root` is computed whole."""
        value, asked = operands(root)[0], self.asks[root, 0]
        if value.is_graph_output():
            return f"`{value.name}` is an output of the graph as well"
        for use in value.uses():
            other = self.asks.get((use.node, use.idx), "whole")
            if other not in (asked, None):
                what = "the whole" if other == "whole" else "another part"
                return f"`{use.node.name}` reads {what} of `{value.name}`"
        producer = value.producer()
        assert producer is not None
        return f"`{producer.name}` computes the whole: {self.blocked.get(producer, 'it takes a part itself')}"


def plan(graph: ir.Graph, roots: Mapping[ir.Node, Root], rules: Mapping[str, Rule]) -> Plan:
    """Decide, from the last node to the first, what part of each value is computed; the graph is not touched."""
    found = Plan(roots)
    for node in reversed(graph):
        wanted = [found.wanted(value) for value in node.outputs]
        if all(part is None for part in wanted):
            found.asks.update({(node, index): None for index in range(len(node.inputs))})
        elif node in roots:
            found.asks[node, 0] = roots[node].part
        elif any(isinstance(part, Part) for part in wanted):
            try:
                part, asks = pass_on(node, wanted, rules)
            except Refused as reason:
                found.blocked[node] = str(reason)
                continue
            found.asks.update({(node, index): asked for index, asked in asks.items()})
            found.parts[result(node)] = part
    return found


def pass_on(node: ir.Node, wanted: list[Ask | Literal["whole"]], rules: Mapping[str, Rule]) -> tuple[Part, Asks]:
    rule = rules.get(node.op_type) if node.domain in ("", "ai.onnx") else None
    if rule is None:
        raise Refused(f"no rule takes a part through {node.op_type}")
    if len(wanted) > 1:
        raise Refused("it has more than one output")
    (part,) = wanted
    sizes = dims(result(node))
    assert isinstance(part, Part)
    if sizes is None or part.axis >= len(sizes) or sizes[part.axis] is None:
        raise Refused(f"the shape of `{result(node).name}` is not known")
    return part, rule(node, part)


def rebuild(graph: ir.Graph, found: Plan) -> int:
    """Carry a plan out; returns how many roots it replaced."""
    edit = Rebuild()
    moved = [root for root in found.roots if found.moves(root)]
    for node in tuple(graph):
        if node in moved:
            edit.finish(node, found.roots[node])
        elif len(node.outputs) == 1 and result(node) in found.parts:
            edit.narrow(node, found.parts[result(node)], dict(found.given(node)))
    return len(moved)


class Rebuild:
    def __init__(self) -> None:
        self.made: dict[tuple[ir.Value, Ask], ir.Value] = {}

    def narrow(self, node: ir.Node, part: Part, asks: Asks) -> None:
        """Let `node` compute `part` of its result, in place."""
        value = result(node)
        for index, asked in asks.items():
            if asked is not None:
                node.replace_input_with(index, self.provide(node, given(node, index), asked))
        if None in asks.values():
            # What one input holds is all that is read, and the node has nothing left to do.
            (kept,) = (given(node, index) for index in range(len(node.inputs)) if asks.get(index, ()) is not None)
            self.made[value, part] = kept
        else:
            value.shape = ir.Shape(shortened(value, part))
            self.made[value, part] = value

    def provide(self, node: ir.Node, value: ir.Value, asked: Ask) -> ir.Value:
        """What `node` reads instead of `value`."""
        assert node.graph is not None
        if (value, asked) not in self.made:
            array = const(value)
            if isinstance(asked, Part) and array is None:
                made = asked.cut(value, node)
            else:
                part = asked.of_array(array) if isinstance(asked, Part) and array is not None else integers(asked)
                made = add_constant(node.graph, f"{value.name}/part", part)
            self.made[value, asked] = made
        return self.made[value, asked]

    def finish(self, root: ir.Node, asked: Root) -> None:
        """Put the part, which by now is computed alone, in the place of what `root` took."""
        old, new = result(root), self.made[operands(root)[0], asked.part]
        if asked.squeeze:
            new = squeeze(root, new, asked.part.axis)
        elif old.is_graph_output():
            # A value is one output of the graph at most.
            new = add_node(root, "Identity", [new], name=beside(root.name or "", "Identity"), shape=symbolic(old))
        substitute(old, new)


def given(node: ir.Node, index: int) -> ir.Value:
    value = node.inputs[index]
    assert value is not None, "a part is asked of what is there"
    return value


def squeeze(root: ir.Node, value: ir.Value, axis: int) -> ir.Value:
    """`value` without `axis`, under the name of the value of `root`."""
    graph, old = root.graph, result(root)
    assert graph is not None
    axes = add_constant(graph, beside(root.name or "", "axes"), integers((axis,)))
    new = add_node(root, "Squeeze", [value, axes], name=beside(root.name or "", "Squeeze"), shape=symbolic(old))
    if not old.is_graph_output():
        name = old.name
        old.name, new.name = f"{name}.before", name
    return new


def integers(numbers: Ask) -> NDArray[np.int64]:
    assert isinstance(numbers, tuple)
    return np.array(numbers, np.int64)


def symbolic(value: ir.Value) -> list[int | str | None]:
    """The shape of a value, its unknown lengths by their names."""
    assert value.shape is not None
    return [size if isinstance(size, int) else size.value for size in value.shape]


def shortened(value: ir.Value, part: Part) -> list[int | str | None]:
    """The shape of `part` of a value."""
    shape = symbolic(value)
    shape[part.axis] = part.length
    return shape
