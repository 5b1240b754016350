"""Files of other exporters get the form of a trace, keep their outputs, and are rewritten as far as a trace."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from paraexport.graph.cost import multiply_adds
from paraexport.graph.query import const
from paraexport.graph.refusal import Applied
from paraexport.graph.shapes import dims
from paraexport.rewrite import applied, canonical, foreign_steps
from paraexport.rewrite.canonical import attention, gemm, packed, shapes, totals
from paraexport.rewrite.passes import restore
from tests.rewrite import exact
from tests.rewrite.foreign import Style, Total, export, exported
from tests.rewrite.graphs import SMALL, model_of
from tests.rewrite.little import Little, drawn, error

EXPORTS: list[tuple[Style, Total, int, bool]] = [
    ("chunk", "stack", 18, False),
    ("index", "sum", 20, False),
    ("split", "zeros", 20, False),
    ("fused", "loop", 18, False),
    ("fused", "stack", 23, False),
    ("chunk", "stack", 17, True),
    ("split", "zeros", 17, True),
    ("index", "sum", 17, True),
    ("fused", "loop", 17, True),
]
FLOAT32 = 1e-5


def answers(model: onnx.ModelProto, images: NDArray[Any]) -> NDArray[np.float32]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"images": images})[0])


def rewritten(proto: onnx.ModelProto, layout: str) -> tuple[ir.Model, dict[str, Applied]]:
    model = ir.from_proto(proto)
    done = {one.name: one for one in applied(model, foreign_steps(model, layout))}
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    return model, done


@pytest.mark.parametrize("layout", ["folded", "stacked"])
@pytest.mark.parametrize(("style", "total", "opset", "scripted"), EXPORTS)
def test_every_pass_applies_to_what_torch_exports(
    style: Style, total: Total, opset: int, scripted: bool, layout: str
) -> None:
    source = exported(style, total, opset, scripted=scripted)
    model, done = rewritten(source.proto, layout)
    wanted = ["gemm", "packed", "norms", "offsets", "scales", "biases", "select"]
    wanted += ["stack"] if layout == "stacked" else ["deep"]
    assert [name for name in wanted if not done[name].times] == []
    assert (done["packed"].times, done["select"].times) == (4, 1)
    assert model.opset_imports[""] == opset, done["restore"].refusals
    for batch in (1, 2, 3):
        expected, got = source.logits[:batch], answers(ir.to_proto(model), source.images[:batch])
        assert np.abs(got - expected).max() <= FLOAT32 * np.abs(source.logits).max()


@pytest.mark.parametrize("opset", [18, 23])
def test_the_reference_model_by_torchs_own_exporter(opset: int) -> None:
    model, images = model_of(SMALL), torch.randn(2, 1, 6, 8, generator=torch.Generator().manual_seed(0))
    proto = export(model, images, opset)
    with torch.no_grad():
        expected = model(images).numpy()
    for layout in ("folded", "stacked"):
        after, done = rewritten(proto, layout)
        assert all(done[name].times for name in ("norms", "offsets", "scales", "biases", "select"))
        assert np.abs(answers(ir.to_proto(after), images.numpy()) - expected).max() <= FLOAT32 * np.abs(expected).max()


@pytest.mark.parametrize(("style", "total"), [("chunk", "stack"), ("index", "sum")])
def test_the_form_is_exact_and_as_much_work(style: Style, total: Total) -> None:
    """Heads of 16 channels have the scale 1/4. Its root is exact in float32, which onnx's evaluator uses."""
    proto = exact.in_float64(exported(style, total, 20).proto)
    before, after = ir.from_proto(proto), ir.from_proto(proto)
    for step in canonical.STEPS:
        step(after)
    images = np.random.default_rng(0).standard_normal((3, 3, 8, 8))
    assert exact.difference(before, after, images) <= exact.EXACT
    assert multiply_adds(after.graph) == multiply_adds(ir.from_proto(proto).graph)
    operators = {node.op_type for node in after.graph}
    assert "Attention" in operators
    assert not operators & {"Gemm", "Softmax", "Split", "Dropout", "Identity", "ReduceSum", "Squeeze"}


def test_the_arithmetic_of_shapes_is_gone() -> None:
    model = ir.from_proto(exported("chunk", "stack", 17, scripted=True).proto)
    for step in canonical.STEPS:
        step(model)
    assert [node.op_type for node in model.graph if node.op_type in {"Gather", "Unsqueeze", "Where", "Cast"}] == [
        "Gather"
    ]
    for node in model.graph:
        if node.op_type == "Reshape":
            assert const(node.inputs[1]) is not None, node.name
        for value in node.outputs:
            sizes = dims(value)
            assert sizes is not None, node.name
            assert None not in sizes[1:], node.name


# Each step alone, on hand-written float64 graphs.


def check(model: ir.Model, step: Any, times: int = 1) -> tuple[ir.Model, Applied]:
    before = model.clone()
    done: Applied = step(model.graph)
    assert done.times == times, done.refusals
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    for batch in (1, 3):
        assert error(before, model, batch) <= exact.EXACT
    return model, done


@pytest.mark.parametrize("turned", [0, 1])
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (0.5, 2.0)])
def test_gemm(turned: int, alpha: float, beta: float) -> None:
    little = Little("batch", 6)
    weight = little.weight(*((4, 6) if turned else (6, 4)))
    out = little.node("Gemm", little.input, weight, little.weight(4), transB=turned, alpha=alpha, beta=beta)
    model, _ = check(little.model(out), gemm.apply)
    assert [node.op_type for node in model.graph] == ["MatMul", "Add"]


def test_gemm_of_two_activations_stays() -> None:
    little = Little("batch", 6)
    check(little.model(little.node("Gemm", little.input, little.input, transA=1)), gemm.apply, 0)


def packing(little: Little, *, columns: int = 12) -> str:
    return little.node("Add", little.node("MatMul", little.input, little.weight(6, columns)), little.weight(columns))


def heads(little: Little, packed: str, kind: str) -> list[str]:
    """Three parts of [B, 4, 12], cut in every way that exporters use."""
    if kind == "split":
        little.nodes.append(onnx.helper.make_node("Split", [packed], ["a", "b", "c"], name="s", axis=-1, num_outputs=3))
        return ["a", "b", "c"]
    if kind == "slices":
        bounds = [(0, 4), (4, 8), (8, 12)]
        return [
            little.node("Slice", packed, little.integers(start), little.integers(end), little.integers(2))
            for start, end in bounds
        ]
    if kind == "index":
        apart = little.node("Reshape", packed, little.integers(0, 0, 3, 2, 2))
        moved = little.node("Transpose", apart, perm=[2, 0, 3, 1, 4])
        return [little.node("Gather", moved, little.index(number), axis=0) for number in range(3)]
    if kind == "innermost":
        # einops "b n (h d qkv)": every third column belongs to one part.
        apart = little.node("Reshape", packed, little.integers(0, 0, 2, 2, 3))
        return [little.node("Gather", apart, little.index(number), axis=4) for number in range(3)]
    apart = little.node("Reshape", packed, little.integers(-1, 4, 3, 4))
    taken = [
        little.node("Slice", apart, little.integers(n), little.integers(n + 1), little.integers(2)) for n in range(3)
    ]
    return [little.node("Squeeze", one, little.integers(2)) for one in taken]


@pytest.mark.parametrize("kind", ["split", "slices", "index", "innermost", "squeezed"])
def test_a_packed_product_is_taken_apart(kind: str) -> None:
    little = Little("batch", 4, 6)
    parts = [little.node("Relu", part) for part in heads(little, packing(little), kind)]
    model, _ = check(little.model(*parts), packed.apply)
    products = [node for node in model.graph if node.op_type == "MatMul"]
    assert [dims(node.outputs[0]) for node in products] == [(None, 4, 4)] * 3
    assert {node.op_type for node in model.graph} <= {"MatMul", "Add", "Relu", "Reshape", "Transpose"}


def test_a_packed_product_that_is_also_read_as_a_whole_stays() -> None:
    little = Little("batch", 4, 6)
    whole = packing(little)
    parts = heads(little, whole, "split")
    check(little.model(*(little.node("Relu", part) for part in (*parts, whole))), packed.apply, 0)


def test_tokens_that_are_cut_are_no_packed_product() -> None:
    little = Little("batch", 4, 6)
    whole = packing(little)
    check(little.model(little.token(whole, 0), little.token(whole, 1)), packed.apply, 0)


def attending(little: Little, scale: str = "scores", turn: str = "apart", mask: bool = False) -> str:
    """Written-out attention of x [B, 2, 5, 4] to itself."""
    query = key = value = little.input
    number = little.constant(np.array(0.25))
    if turn == "samples":
        flat = little.node("Reshape", key, little.integers(-1, 5, 4))
        swapped = little.node("Transpose", flat, perm=[0, 2, 1])
        key = little.node("Reshape", swapped, little.integers(-1, 2, 4, 5))
    else:
        key = little.node("Transpose", key, perm=[0, 1, 3, 2])
    if scale in ("query", "both"):
        query = little.node("Mul", query, number)
    if scale in ("key", "both"):
        key = little.node("Mul", number, key)
    scores = little.node("MatMul", query, key)
    if scale == "scores":
        scores = little.node("Mul", scores, number)
    if scale == "divided":
        scores = little.node("Div", scores, little.constant(np.array([4.0])))
    if mask:
        scores = little.node("Add", scores, little.weight(5, 5))
    return little.node("MatMul", little.node("Softmax", scores, axis=-1), value)


@pytest.mark.parametrize("turn", ["apart", "samples"])
@pytest.mark.parametrize("scale", ["none", "query", "key", "both", "scores", "divided"])
def test_attention_becomes_one_node(scale: str, turn: str) -> None:
    little = Little("batch", 2, 5, 4)
    model, _ = check(little.model(attending(little, scale, turn)), attention.apply)
    assert [node.op_type for node in model.graph] == ["Attention"]


def test_one_transpose_for_heads_and_key_is_recognised() -> None:
    little = Little("batch", 5, 2, 4)
    query = little.node("Transpose", little.input, perm=[0, 2, 1, 3])
    key = little.node("Transpose", little.input, perm=[0, 2, 3, 1])
    shares = little.node("Softmax", little.node("MatMul", query, key), axis=-1)
    model, _ = check(little.model(little.node("MatMul", shares, query)), attention.apply)
    assert sorted(node.op_type for node in model.graph) == ["Attention", "Transpose", "Transpose"]


def test_masked_attention_is_refused() -> None:
    little = Little("batch", 2, 5, 4)
    _, done = check(little.model(attending(little, mask=True)), attention.apply, 0)
    assert "as a mask does" in done.refusals[0]


def test_attention_whose_weights_are_read_is_refused() -> None:
    little = Little("batch", 2, 5, 4)
    mixed = attending(little)
    shares = next(node.output[0] for node in little.nodes if node.op_type == "Softmax")
    _, done = check(little.model(mixed, shares), attention.apply, 0)
    assert "another reader" in done.refusals[0]


def test_a_sum_that_starts_from_zeros() -> None:
    little = Little("batch", 4, 6)
    zeros = little.node("Expand", little.constant(np.zeros(1)), little.node("Shape", little.input))
    total = little.node("Add", little.node("Add", zeros, little.input), little.node("Relu", little.input))
    model = little.model(total)
    before = model.clone()
    for node in model.graph:
        if node.op_type == "Expand":
            node.outputs[0].shape = ir.Shape(["batch", 4, 6])
    for node in model.graph:
        if node.op_type == "Add":
            node.outputs[0].shape = ir.Shape(["batch", 4, 6])
    assert totals.apply(model.graph).times == 1
    assert sorted(node.op_type for node in model.graph) == ["Add", "Relu"]
    assert error(before, model) <= exact.EXACT


def test_zeros_that_widen_what_they_are_added_to_stay() -> None:
    little = Little("batch", 1, 6)
    total = little.node("Add", little.constant(np.zeros((4, 6))), little.input)
    check(little.model(little.node("Relu", total)), totals.apply, 0)


def test_a_size_that_depends_on_the_batch_is_asked_for_by_its_rest() -> None:
    little = Little("batch", 4, 6)
    batch = little.node("Slice", little.node("Shape", little.input), little.integers(0), little.integers(1))
    target = little.node("Concat", batch, little.integers(2), little.integers(-1), axis=0)
    model = little.model(little.node("Relu", little.node("Reshape", little.input, target)))
    before = model.clone()
    assert shapes.apply(model).times == 1
    (reshaping,) = (node for node in model.graph if node.op_type == "Reshape")
    target_now = const(reshaping.inputs[1])
    assert target_now is not None
    assert target_now.tolist() == [-1, 2, 12]
    assert error(before, model) <= exact.EXACT


def test_a_target_with_two_unknown_sizes_stays() -> None:
    little = Little("batch", "tokens", 6)
    lead = little.node("Shape", little.input, start=0, end=2)
    target = little.node("Concat", lead, little.integers(2, 3), axis=0)
    model = little.model(little.node("Relu", little.node("Reshape", little.input, target)))
    assert shapes.apply(model).times == 0
    assert sum(node.op_type == "Shape" for node in model.graph) == 1


def test_sizes_that_are_read_backwards_stay() -> None:
    little = Little("batch", 4, 6)
    ends = [little.integers(number) for number in (-1, -100)]
    backwards = little.node("Slice", little.node("Shape", little.input), *ends, "", little.integers(-1))
    channels = little.node("Cast", little.node("Gather", backwards, little.integers(0)), to=onnx.TensorProto.DOUBLE)
    model = little.model(little.node("Mul", little.input, channels))
    before = model.clone()
    shapes.apply(model)
    assert error(before, model) <= exact.EXACT


def test_a_newer_operator_keeps_the_newer_opset() -> None:
    little = Little("batch", 4, 6, opset=23)
    model = little.model(little.node("Gelu", little.node("RMSNormalization", little.input, little.weight(6))))
    done = restore.apply(model, 18)
    assert model.opset_imports[""] == 23
    assert any("RMSNormalization is newer than opset 18" in reason for reason in done.refusals)


@settings(max_examples=40, deadline=None)
@given(model=drawn(), layout=st.sampled_from(["folded", "stacked"]))
def test_random_graphs_there_and_back_are_the_same(model: ir.Model, layout: str) -> None:
    before = model.clone()
    for _ in applied(model, foreign_steps(model, layout)):
        onnx.checker.check_model(ir.to_proto(model), full_check=True)
    assert error(before, model) <= exact.EXACT
