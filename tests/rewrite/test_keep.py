"""Parts marked to stay in float32 keep their outputs, and are stacked separately."""

from typing import Any

import onnx
import onnx_ir as ir
import pytest

from paraexport.graph.naming import is_in, is_kept
from paraexport.rewrite import applied, low_precision_steps
from paraexport.rewrite.passes import keep, lower, stack
from tests.rewrite.exact import EXACT, difference
from tests.rewrite.graphs import SMALL, count, graph64, images
from tests.rewrite.small_graphs import branches, graph_of, tokens

KINDS: dict[str, dict[str, Any]] = {
    "normalized": {},
    "input, mean": {"residual": "input", "pool": "mean", "branches": 4},
    "post, one layer": {"residual": "post", "depth": 1, "branches": 4},
    "one layer": {"depth": 1, "branches": 4},
}
KEPT = (
    (), ("branches.1",), ("branches.0", "branches.2"), ("branches.1/layers.0",), ("branches.0", "branches.1/layers.0"),
    ("branches.0", "branches.1", "branches.2"),
)  # fmt: skip
LAYOUTS = ("folded", "stacked", "branches")


def layout_of(layout: str, kept: tuple[str, ...], **fields: Any) -> ir.Model:
    model = graph64(**fields)
    for _ in applied(model, low_precision_steps(layout, kept, equalised=True)):
        pass
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    return model


def test_every_node_of_a_part_is_marked_once_and_no_other() -> None:
    model = graph64()
    before = [node.name or "" for node in model.graph]
    for _ in range(2):
        done = keep.apply(model.graph, ["branches.1/layers.0", "branches.2"])
        assert done.times == 2
    for was, node in zip(before, model.graph, strict=True):
        own = was.startswith(("branches.1/layers.0/", "branches.2/"))
        assert is_kept(node.name) is own
        assert node.name == (f"{was}.float32" if own else was)


@pytest.mark.parametrize("part", ["branches.7", "branches.1/layers.9", "branches", "", "ranches.1", "branches.1/"])
def test_a_part_that_does_not_exist_is_an_error(part: str) -> None:
    model = graph64()
    before = [node.name for node in model.graph]
    with pytest.raises(ValueError, match="no node belongs to"):
        keep.apply(model.graph, [part])
    assert [node.name for node in model.graph] == before


@pytest.mark.parametrize(
    ("name", "part", "inside"),
    [
        ("branches.1/layers.0/MatMul", "branches.1", True),
        ("branches.1/layers.0/MatMul", "branches.1/layers.0", True),
        ("encoder/branches.1/layers.0/MatMul", "branches.1/layers.0", True),
        ("branches.11/layers.0/MatMul", "branches.1", False),
        ("branches.1/layers.01/MatMul", "branches.1/layers.0", False),
        ("mybranches.1/MatMul", "branches.1", False),
        ("branches.1", "branches.1", False),
        (None, "branches.1", False),
    ],
)
def test_what_is_in_a_part(name: str | None, part: str, inside: bool) -> None:
    assert is_in(name, part) is inside


@pytest.mark.parametrize("fields", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_answers_stay_exact_whatever_is_kept(layout: str, fields: dict[str, Any]) -> None:
    before = graph64(**fields)
    for kept in KEPT:
        after = layout_of(layout, kept, **fields)
        for batch in (1, 5):
            assert difference(before, after, images(batch=batch)) <= EXACT
        names = [node.name or "" for node in after.graph]
        assert any(map(is_kept, names)) == bool(kept)
        assert len({*names}) == len(names)


@pytest.mark.parametrize("depth", [1, 2])
def test_kept_branches_are_stacked_by_themselves_and_keep_their_mark(depth: int) -> None:
    model = layout_of("stacked", ("branches.0", "branches.3"), branches=5, depth=depth, residual="input", pool="mean")
    products = [node for node in model.graph if node.op_type == "MatMul" and "branches" in (node.name or "")]
    weights = {is_kept(node.name): set() for node in products}  # type: ignore[var-annotated]
    for node in products:
        tensor = ir.convenience.get_const_tensor(node.inputs[1]) if node.inputs[1] else None
        if tensor is not None:
            weights[is_kept(node.name)].add(tuple(tensor.shape))
    assert all(shape[0] == 2 for shape in weights[True] if len(shape) == 3), "two kept branches at once"
    assert all(shape[0] == 3 for shape in weights[False] if len(shape) == 3), "and the other three"
    assert any(len(shape) == 3 for shape in weights[True])
    assert not [node.name for node in model.graph if (node.name or "").startswith(("branches.0/", "branches.3/"))]


def test_one_kept_branch_stays_under_its_own_name() -> None:
    model = layout_of("stacked", ("branches.1",))
    own = [node.name for node in model.graph if (node.name or "").startswith("branches.1/")]
    assert own
    assert all(map(is_kept, own))
    assert not any(is_kept(node.name) for node in model.graph if (node.name or "").startswith("branches.*/"))


def test_a_separate_branch_is_reported_with_the_reason() -> None:
    model = graph_of(branches(3))
    keep.apply(model.graph, ["branches.1"])
    done = stack.apply(model.graph)
    assert done.times == 1
    assert any("it stays in float32, but" in line for line in done.refusals), done.refusals


@pytest.mark.parametrize("fields", KINDS.values(), ids=KINDS)
def test_without_a_deep_product_the_answers_are_exact(fields: dict[str, Any]) -> None:
    before, after = graph64(**fields), graph64(**fields)
    assert stack.apply(after.graph, deep=False).times == 1
    onnx.checker.check_model(ir.to_proto(after), full_check=True)
    for batch in (1, 7):
        assert difference(before, after, images(batch=batch)) <= EXACT
    assert count(after, "ReduceSum") >= 1, "branches are added up as they are"


def test_without_a_deep_product_no_weight_is_as_deep_as_all_branches() -> None:
    before = graph_of(branches(3))
    after, deep = before.clone(), before.clone()
    stack.apply(after.graph, deep=False)
    stack.apply(deep.graph)
    shapes, deep_shapes = (
        {tuple(value.const_value.shape) for value in model.graph.initializers.values() if value.const_value}
        for model in (after, deep)
    )
    assert (24, 6) in deep_shapes
    assert (24, 6) not in shapes
    assert {(3, 8, 6), (3, 6, 6)} <= shapes
    assert difference(before, after, tokens()) <= EXACT


def test_without_a_deep_product_there_are_as_many_nodes_for_any_number_of_branches() -> None:
    kinds = []
    for number in (2, 3, 17):
        model = graph_of(branches(number))
        assert stack.apply(model.graph, deep=False).times == 1
        kinds.append([node.op_type for node in model.graph])
    assert kinds[0] == kinds[1] == kinds[2]
    kinds += [[node.op_type for node in layout_of("stacked", (), branches=number).graph] for number in (2, 5)]
    assert kinds[-1] == kinds[-2]


def test_lowered_to_opset_20_the_marks_stay() -> None:
    model = layout_of("folded", ("branches.1",))
    marked = {node.name for node in model.graph if is_kept(node.name) and node.op_type == "MatMul"}
    assert not lower.apply(model).refusals
    assert marked <= {node.name for node in model.graph}
    assert difference(graph64(), model, images()) <= EXACT
    assert SMALL.branches == 3
