"""A step on a whole graph or not at all: one that stops halfway leaves the graph as it was, and says why.

Graphs from elsewhere hold what nobody has tried, and the steps call libraries that raise classes of their own. What a
step changed before it stopped could be wrong, so nothing of it stays. The refusal names the error: it is a fault of the
step, unless the step itself refused.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator

import onnx_ir as ir

from paraexport.errors import on_one_line
from paraexport.graph.refusal import Applied, Refused

Pass = Callable[[ir.Graph], Applied]
Step = Callable[[ir.Model], Applied]
FAULT = "stopped by a fault of its own"


def atomic(name: str, step: Step) -> Step:
    """`step`, which reports as `name`, so that it never raises and never leaves a graph half edited."""

    @functools.wraps(step)
    def apply(model: ir.Model) -> Applied:
        before: ir.Model | None = None
        try:
            before = model.clone()
            return step(model)
        except MemoryError:
            raise
        except Refused as reason:
            why = str(reason)
        except Exception as error:
            why = f"{FAULT}, {type(error).__name__}: {on_one_line(error)}; the graph is unchanged"
        if before is not None:
            restore(model, before)
        return Applied(name, refusals=[f"graph: {why}"])

    return apply


@contextlib.contextmanager
def refuse_library_errors(what: str) -> Iterator[None]:
    """Refuses where a library raises, of whatever class, at a graph from elsewhere."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        raise Refused(f"{what}: {on_one_line(error)}") from error


def on_graph(apply: Pass) -> Step:
    return lambda model: apply(model.graph)


def restore(model: ir.Model, before: ir.Model) -> None:
    """Make the model what it was; a constant shares its numbers, and their name, with its copy."""
    model.graph, model.ir_version = before.graph, before.ir_version
    for name, value in model.graph.initializers.items():
        if value.const_value is not None:
            value.const_value.name = name
    model.functions.clear()
    model.functions.update(before.functions)
