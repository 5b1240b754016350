"""Names nodes by branch and layer: `branches.*/fc1` replaces `branches.0/fc1` and `branches.1/fc1`."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

BRANCHES = "branches.*"
KEPT = ".float32"
"""The end of the name of a node that stays in float32 in a lower precision. Nodes that replace such nodes keep it."""


def is_kept(name: str | None) -> bool:
    return KEPT in (name or "")


def is_in(name: str | None, part: str) -> bool:
    """Whether a node belongs to the part `branches.3` or `branches.3/layers.1`. An outer module makes no difference."""
    path = f"/{name or ''}"
    # `branches.3` also has the modules `branches.3.0`, `branches.3.1`, … of an nn.Sequential.
    return f"/{part}/" in path or (part[-1:].isdecimal() and f"/{part}." in path)


def shared_scope(names: Sequence[str | None]) -> str:
    """The levels that the names share from the left, with `*` for an index that differs."""
    levels = []
    for parts in zip(*((name or "").split("/") for name in names), strict=False):
        level = shared_level(parts)
        if level is None:
            break
        levels.append(level)
    return "/".join(levels)


def shared_level(parts: Sequence[str]) -> str | None:
    """`branches.*` for `branches.0` and `branches.1`; None if more than an index differs."""
    pieces = []
    for same in itertools.zip_longest(*(part.split(".") for part in parts)):
        if len(set(same)) == 1:
            pieces.append(same[0])
        elif all(piece is not None and piece.isdecimal() for piece in same):
            pieces.append("*")
        else:
            return None
    return ".".join(pieces)


def stacked_name(names: Sequence[str | None], last: str) -> str:
    """The name of a node that replaces all of `names`, with `last` at its end: `branches.*/layers.1/fc1/MatMul`."""
    scope = shared_scope(names)
    if scope.rpartition("/")[2].partition("_")[0] != last:
        scope = joined(scope, last)
    return scope if "*" in scope.partition("/")[0] else f"{BRANCHES}/{scope}"


def joined(scope: str, name: str) -> str:
    """`scope/name`, or `name` if there is no scope."""
    return f"{scope}/{name}" if scope else name


def beside(name: str, last: str) -> str:
    """The name of another node in the scope of the node `name`: `a/b/MatMul` -> `a/b/last`."""
    return joined(name.rpartition("/")[0], last)
