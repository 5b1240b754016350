"""The report of a pass: how often its rule applied, and where and why it did not."""

from __future__ import annotations

from dataclasses import dataclass, field

import onnx_ir as ir


class Refused(Exception):
    """A rule does not apply here. The message gives the reason to the user."""


@dataclass
class Applied:
    """The report of one pass."""

    name: str
    times: int = 0
    refusals: list[str] = field(default_factory=list)
    """`node: reason`, one line for each place where the rule nearly applied."""

    def refuse(self, node: ir.Node, reason: object) -> None:
        self.refusals.append(f"{node_label(node)}: {reason}")


def node_label(node: ir.Node) -> str:
    """The name of a node for a message; its operator, if it has no name."""
    return node.name or node.op_type
