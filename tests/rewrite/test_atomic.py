"""A step that stops halfway leaves the graph unchanged and reports the reason. The next steps still run."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from paraexport.graph.edit import add_constant, clean
from paraexport.graph.query import result
from paraexport.graph.refusal import Applied, Refused
from paraexport.rewrite import LAYOUTS, applied, layout_steps
from paraexport.rewrite.atomic import FAULT, atomic, on_graph
from tests.rewrite.samples import check_exact, copy, numbers, small


def model() -> ir.Model:
    return small("a = MatMul (x, w) y = Add (a, b)", w=numbers(6, 5), b=numbers(5))


def spoil(graph: ir.Graph) -> None:
    """Half of an edit: a new name, a new constant, one node less."""
    graph.initializers["w"].name = "renamed"
    add_constant(graph, "left over", np.ones(3))
    last = graph.outputs[0].producer()
    assert last is not None
    last.replace_input_with(0, graph.inputs[0])
    clean(graph)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (Refused("not here"), "graph: not here"),
        (KeyError("w"), f"graph: {FAULT}, KeyError: 'w'; the graph is unchanged"),
        (AssertionError("two\nlines"), f"graph: {FAULT}, AssertionError: two lines; the graph is unchanged"),
    ],
)
def test_what_a_step_changed_before_it_stopped_is_undone(error: Exception, words: str) -> None:
    def apply(graph: ir.Graph) -> Applied:
        spoil(graph)
        graph.opset_imports[""] = 9
        raise error

    before = model()
    after = copy(before)
    after.ir_version = 9
    done = atomic("pass", on_graph(apply))(after)
    assert (done.name, done.times, done.refusals) == ("pass", 0, [words])
    assert after.opset_imports == {"": 23}
    after.ir_version = before.ir_version
    assert ir.to_proto(after) == ir.to_proto(before)


def test_a_lack_of_memory_is_no_fault_of_a_step() -> None:
    def apply(_model: ir.Model) -> Applied:
        raise MemoryError

    with pytest.raises(MemoryError):
        atomic("pass", apply)(model())


def test_the_other_passes_of_a_layout_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(graph: ir.Graph) -> Applied:
        return Applied("fault", len(result(next(iter(graph))).name or "") // 0)

    monkeypatch.setitem(LAYOUTS, "folded", (fault, *LAYOUTS["folded"]))
    before = small("s = Mul (x, g) a = MatMul (s, w) y = Add (a, b)", g=numbers(6), w=numbers(6, 5), b=numbers(5))
    after = copy(before)
    first, *rest = applied(after, layout_steps("folded"))
    assert "ZeroDivisionError" in first.refusals[0]
    assert {one.name: one.times for one in rest}["scales"] == 1
    check_exact(before, after)
    assert len(after.graph) == len(before.graph) - 1
    onnx.checker.check_model(ir.to_proto(after), full_check=True)
