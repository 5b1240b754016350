"""Makes a step atomic: it applies to the whole graph, or the graph stays unchanged and the report gives the reason.

Graphs of other exporters contain surprises, and steps call libraries with their own error classes. A step that stopped
halfway may have left a wrong graph. So the graph from before the step is restored, whatever the error. The report names
the error as a fault of the step, unless the step refused.
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
FAULT = "this pass failed with an error of its own"


def atomic(name: str, step: Step) -> Step:
    """`step` under the name `name`. It raises nothing but a MemoryError, and never leaves a half-edited graph."""

    @functools.wraps(step)
    def apply(model: ir.Model) -> Applied:
        before: ir.Model | None = None
        try:
            before = model.clone()
            return step(model)
        except MemoryError:
            raise
        except Refused as refusal:
            reason = str(refusal)
        except Exception as error:
            reason = f"{FAULT}, {type(error).__name__}: {on_one_line(error)}; the graph is unchanged"
        if before is not None:
            restore(model, before)
        return Applied(name, refusals=[f"graph: {reason}"])

    return apply


@contextlib.contextmanager
def refuse_library_errors(what: str) -> Iterator[None]:
    """Turn every error of a library inside the block into a refusal that begins with `what`."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        raise Refused(f"{what}: {on_one_line(error)}") from error


def on_graph(apply: Pass) -> Step:
    """A pass on a graph, as a step on a model."""
    return lambda model: apply(model.graph)


def restore(model: ir.Model, before: ir.Model) -> None:
    """Give the model the graph from before the step.

    A copied constant shares its tensor with the original, and so the tensor's name, which a step may have changed.
    """
    model.graph, model.ir_version = before.graph, before.ir_version
    for name, value in model.graph.initializers.items():
        if value.const_value is not None:
            value.const_value.name = name
    model.functions.clear()
    model.functions.update(before.functions)
