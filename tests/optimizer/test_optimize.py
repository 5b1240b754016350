"""optimize(): right answers from rewritten files, refusals with their reason, and no faulty rewrite gets through."""

from __future__ import annotations

import dataclasses
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from paraexport import rewrite
from paraexport.errors import CheckFailed, InputError, OutputError
from paraexport.graph import onnx_file
from paraexport.graph.edit import add_constant, add_node
from paraexport.graph.query import const, is_op
from paraexport.graph.refusal import Applied
from paraexport.optimizer import self_check
from paraexport.optimizer.rewriting import LAYOUT_NAMES, Optimized
from paraexport.optimizer.rewriting import optimize_here as optimize
from paraexport.rewrite import LAYOUTS
from paraexport.rewrite.passes import biases, offsets, select
from paraexport.rewrite.passes.select import Window
from paraexport.rewrite.patterns import products
from paraexport.rewrite.patterns.demand import Root
from paraexport.rewrite.stacking import branch_sum
from tests.rewrite.foreign import exported
from tests.rewrite.graphs import SMALL, images, traced

FLOAT32 = 1e-5
Edit = Callable[[onnx.ModelProto], object]


def saved(folder: Path, proto: onnx.ModelProto, *edits: Edit) -> Path:
    changed = onnx.ModelProto()
    changed.CopyFrom(proto)
    for edit in edits:
        edit(changed)
    onnx.save(changed, folder / "in.onnx")
    return folder / "in.onnx"


def answers(path: Path, seen: NDArray[Any]) -> list[NDArray[np.float32]]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found: list[NDArray[np.float32]] = session.run(None, {"images": seen.astype(np.float32)})
    return found


def times(done: Optimized) -> dict[str, int]:
    return {row.name: row.times for row in done.passes}


def reasons(done: Optimized, name: str) -> str:
    return "\n".join(refusal for row in done.passes if row.name == name for refusal in row.refusals)


def check_same(before: Path, after: Path) -> None:
    """Both answer alike on other images than the self-check's, and have the same inputs and outputs."""
    for batch in (1, 5):
        seen = images(batch=batch, seed=99)
        for one, other in zip(answers(before, seen), answers(after, seen), strict=True):
            assert np.abs(one - other).max() <= FLOAT32 * np.abs(one).max()
    one, other = (onnx.load(path) for path in (before, after))
    assert list(one.graph.input) == list(other.graph.input)
    assert [value.name for value in one.graph.output] == [value.name for value in other.graph.output]


@pytest.mark.parametrize("layout", ["folded", "stacked"])
def test_a_trace_is_rewritten_and_answers_as_before(tmp_path: Path, layout: str) -> None:
    source = saved(tmp_path, traced(SMALL))
    stages: list[str] = []
    done = optimize(source, tmp_path / "new/out.onnx", layout=layout, progress=stages.append)
    assert stages == ["reading", "rewriting", "checking", "writing"]
    assert done.changed
    check_same(source, tmp_path / "new/out.onnx")
    counted = times(done)
    assert counted["norms"] == SMALL.branches * (1 if layout == "folded" else 2 * SMALL.depth) + 1
    assert counted["select"] == 1
    assert counted["stack" if layout == "stacked" else "deep"] == 1
    assert done.after.multiply_adds is not None
    assert done.before.multiply_adds is not None
    assert done.after.multiply_adds < done.before.multiply_adds
    assert done.before.nodes == len(traced(SMALL).graph.node)
    assert done.after.nodes == len(onnx.load(done.output).graph.node)
    assert done.check is not None
    assert done.check.passed
    assert done.check.samples == 100
    assert done.check.value is not None
    assert 0 < done.check.value <= FLOAT32
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == ["out.onnx"]


def test_what_another_exporter_wrote_keeps_its_opset_and_its_operators(tmp_path: Path) -> None:
    source = exported("chunk", "stack", 17, scripted=True)
    path = saved(tmp_path, source.proto)
    done = optimize(path, tmp_path / "out.onnx")
    assert done.opset == (17, 17)
    assert done.before.multiply_adds == done.passes[0].after.multiply_adds
    assert "Attention" not in {node.op_type for node in onnx.load(done.output).graph.node}
    (got,) = answers(done.output, source.images)
    assert np.abs(got - source.logits).max() <= FLOAT32 * np.abs(source.logits).max()


def test_the_result_has_nothing_left_to_rewrite_by_selection(tmp_path: Path) -> None:
    done = optimize(saved(tmp_path, traced(SMALL)), tmp_path / "once.onnx")
    again = optimize(done.output, tmp_path / "twice.onnx")
    assert (times(again)["select"], times(again)["deep"], times(again)["norms"]) == (0, 0, 0)
    assert again.after.multiply_adds == done.after.multiply_adds


def test_large_weights_go_to_a_file_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = saved(tmp_path, traced(SMALL))
    monkeypatch.setattr(onnx_file, "MOST_WEIGHTS_BYTES", 1000)
    done = optimize(source, tmp_path / "new/out.onnx")
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == ["out.onnx", "out.onnx.data"]
    check_same(source, done.output)


def test_weights_from_a_file_of_their_own_are_in_the_result(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    source = tmp_path / "old/in.onnx"
    proto = onnx.ModelProto()
    proto.CopyFrom(traced(SMALL))
    onnx.save(proto, source, save_as_external_data=True, location="in.data", size_threshold=200)
    assert (tmp_path / "old/in.data").stat().st_size > 1000
    done = optimize(source, tmp_path / "new/out.onnx")
    assert done.changed
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["out.onnx"]
    check_same(source, done.output)


def test_a_batch_without_a_name_stays_without(tmp_path: Path) -> None:
    def nameless(model: onnx.ModelProto) -> None:
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[0].Clear()
        del model.graph.value_info[:]

    source = saved(tmp_path, exported("chunk", "stack", 18).proto, nameless)
    done = optimize(source, tmp_path / "out.onnx", layout="stacked")
    assert (times(done)["select"], times(done)["stack"]) == (1, 1)
    before, after = (onnx.load(path).graph for path in (source, done.output))
    for one, other in ((before.input, after.input), (before.output, after.output)):
        assert [(value.name, value.type) for value in one] == [(value.name, value.type) for value in other]


def under_its_long_name(model: onnx.ModelProto) -> None:
    model.opset_import[0].domain = "ai.onnx"


def with_weights_as_inputs(model: onnx.ModelProto) -> None:
    model.ir_version = 3
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))


@pytest.mark.parametrize("edit", [under_its_long_name, with_weights_as_inputs])
def test_other_ways_to_write_the_same_file(tmp_path: Path, edit: Edit) -> None:
    source = exported("chunk", "stack", 17, scripted=True)
    done = optimize(saved(tmp_path, source.proto, edit), tmp_path / "out.onnx")
    assert times(done)["select"] == 1
    (got,) = answers(done.output, source.images)
    assert np.abs(got - source.logits).max() <= FLOAT32 * np.abs(source.logits).max()


def test_what_a_graph_leaves_of_equal_tokens_is_its_own_rounding(tmp_path: Path) -> None:
    """The spread over the tokens of a blank image is 0 but for rounding, and the rewritten graph rounds otherwise."""
    random = np.random.default_rng(0)
    weights: dict[str, Any] = {name: random.standard_normal((8, 8)).astype(np.float32) for name in "abcd"}
    weights |= {"tokens": np.array([0, 6, 8]), "one": np.array([1]), "shift": weights["a"][0]}
    nodes = [node("Reshape", "images tokens", "x")]
    for one, other, number in (("a", "b", 0), ("c", "d", 1)):
        nodes += [
            helper.make_node("MatMul", ["x", one], [f"p{number}"], name=f"p{number}"),
            helper.make_node("Add", [f"p{number}", "shift"], [f"q{number}"], name=f"q{number}"),
            helper.make_node("Relu", [f"q{number}"], [f"r{number}"], name=f"r{number}"),
            helper.make_node("MatMul", [f"r{number}", other], [f"s{number}"], name=f"s{number}"),
        ]
    nodes += [
        node("Add", "s0 s1", "y"),
        node("ReduceMean", "y one", "mean", keepdims=1),
        node("Sub", "y mean", "spread"),
        node("Flatten", "spread", "logits"),
    ]
    proto = plain(nodes, **weights)
    done = optimize(saved(tmp_path, proto), tmp_path / "out.onnx")
    assert times(done)["deep"] == 1
    assert done.check is not None
    assert "more is allowed on" in done.check.reason
    check_same(tmp_path / "in.onnx", done.output)


def test_weights_that_onnx_runtime_would_turn_can_be_moved(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    weights: dict[str, Any] = {"place": random.standard_normal((1, 8, 6)).astype(np.float32)}
    nodes = [
        node("Reshape", "images tokens", "x"),
        helper.make_node("Transpose", ["x"], ["turned"], name="turned", perm=[0, 2, 1]),
        node("Add", "turned place", "placed"),
        helper.make_node("Transpose", ["placed"], ["back"], name="back", perm=[0, 2, 1]),
        node("Flatten", "back", "logits"),
    ]
    path = saved(tmp_path, plain(nodes, tokens=np.array([0, 6, 8]), **weights))
    seen = random.standard_normal((2, 1, 6, 8)).astype(np.float32)
    (one,), (other,) = (self_check.open_graph(path, "images", moved=moved)(seen) for moved in (False, True))
    assert 0 < np.abs(one - other).max() <= 1e-6 * np.abs(one).max()


# Nothing to do.


def plain(nodes: list[onnx.NodeProto], *, opset: int = 20, **weights: NDArray[Any]) -> onnx.ModelProto:
    """A graph images [batch, 1, 6, 8] -> logits [batch, 48]."""
    graph = helper.make_graph(
        nodes,
        "plain",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 1, 6, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 48])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def node(op_type: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op_type, inputs.split(), [output], name=f"the_{op_type}", **attributes)


def nothing_to_do() -> onnx.ModelProto:
    weight = np.random.default_rng(0).standard_normal((48, 48)).astype(np.float32)
    return plain([node("Flatten", "images", "flat"), node("Gemm", "flat weight", "logits")], weight=weight)


@pytest.mark.parametrize("layout", LAYOUT_NAMES)
def test_where_there_is_nothing_to_do_the_file_is_the_same(tmp_path: Path, layout: str) -> None:
    source = saved(tmp_path, nothing_to_do())
    done = optimize(source, tmp_path / "out.onnx", layout=layout)
    assert not done.changed
    assert done.check is None
    assert done.after == done.before
    assert done.output.read_bytes() == source.read_bytes()


def test_the_weights_beside_an_unchanged_file_come_along(tmp_path: Path) -> None:
    source = tmp_path / "in.onnx"
    onnx.save(nothing_to_do(), source, save_as_external_data=True, location="weights.bin", size_threshold=0)
    done = optimize(source, tmp_path / "new/out.onnx")
    assert not done.changed
    assert (tmp_path / "new/weights.bin").read_bytes() == (tmp_path / "weights.bin").read_bytes()
    check_same(source, done.output)


def test_weights_that_are_cut_off_are_refused(tmp_path: Path) -> None:
    source = tmp_path / "in.onnx"
    onnx.save(nothing_to_do(), source, save_as_external_data=True, location="weights.bin", size_threshold=0)
    for content in (b"", (tmp_path / "weights.bin").read_bytes()[:-1]):
        (tmp_path / "weights.bin").write_bytes(content)
        with pytest.raises(InputError, match=r"weights.bin: its weights are cut off \(expected at least 9216 bytes"):
            optimize(source, tmp_path / "out.onnx")


def test_weights_of_the_input_are_never_replaced(tmp_path: Path) -> None:
    source, weights = tmp_path / "in.onnx", tmp_path / "weights.bin"
    onnx.save(nothing_to_do(), source, save_as_external_data=True, location="weights.bin", size_threshold=0)
    before = weights.read_bytes()
    with pytest.raises(OutputError, match="the output is the input, or its weights"):
        optimize(source, weights, force=True)
    with pytest.raises(OutputError, match="has the name of its own weights"):
        optimize(source, tmp_path / "new/weights.bin")
    assert weights.read_bytes() == before
    assert not (tmp_path / "new").exists()


# Refusals.


def fixed_batch(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2


def free_height(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"


def second_input(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, ["batch", 5]))


def integer_output(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("ArgMax", ["logits"], ["label"], name="the_ArgMax", axis=1))
    model.graph.output.append(helper.make_tensor_value_info("label", TensorProto.INT64, ["batch", 1]))


def added(op_type: str, *inputs: str, **attributes: Any) -> Edit:
    def edit(model: onnx.ModelProto) -> None:
        inside = helper.make_node(op_type, ["logits", *inputs], ["extra"], name=f"the_{op_type}", **attributes)
        total = helper.make_node("Add", ["logits", "extra"], ["total"], name="total")
        model.graph.node.extend([inside, total])
        model.graph.initializer.append(numpy_helper.from_array(np.array(0.5, np.float32), "ratio"))
        model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
        model.graph.output[0].name = "total"

    return edit


def branching(model: onnx.ModelProto) -> None:
    value = helper.make_tensor_value_info("then", TensorProto.FLOAT, ["batch", 5])
    graph = helper.make_graph([helper.make_node("Relu", ["logits"], ["then"])], "then", [], [value])
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    model.graph.node.append(
        helper.make_node("If", ["yes"], ["chosen"], name="the_If", then_branch=graph, else_branch=graph)
    )
    model.graph.output[0].name = "chosen"


def with_function(model: onnx.ModelProto) -> None:
    opsets = [helper.make_opsetid("", 23)]
    body = [helper.make_node("Relu", ["x"], ["y"])]
    model.functions.append(helper.make_function("mine", "Own", ["x"], ["y"], body, opsets))
    model.opset_import.append(helper.make_opsetid("mine", 1))
    model.graph.node.append(helper.make_node("Own", ["logits"], ["own"], name="the_Own", domain="mine"))
    model.graph.output[0].name = "own"


def unknown_domain(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("theirs", 1))
    model.graph.node.append(helper.make_node("Other", ["logits"], ["other"], name="the_Other", domain="theirs"))
    model.graph.output[0].name = "other"


def half_weights(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.ones(5, np.float16), "small"))
    model.graph.node.append(helper.make_node("Cast", ["small"], ["wide"], name="the_Cast", to=TensorProto.FLOAT))
    model.graph.node.append(helper.make_node("Add", ["logits", "wide"], ["total"], name="total"))
    model.graph.output[0].name = "total"


def half_way(model: onnx.ModelProto) -> None:
    for name, old, new, dtype in (
        ("down", "logits", "small", TensorProto.FLOAT16),
        ("up", "small", "wide", TensorProto.FLOAT),
    ):
        model.graph.node.append(helper.make_node("Cast", [old], [new], name=name, to=dtype))
    model.graph.output[0].name = "wide"


def sparse(model: onnx.ModelProto) -> None:
    values, places = np.ones(1, np.float32), np.zeros(1, np.int64)
    tensor = helper.make_sparse_tensor(numpy_helper.from_array(values), numpy_helper.from_array(places), [5])
    model.graph.node.append(helper.make_node("Constant", [], ["few"], name="the_Constant", sparse_value=tensor))
    model.graph.node.append(helper.make_node("Add", ["logits", "few"], ["total"], name="total"))
    model.graph.output[0].name = "total"


def nothing_finite(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.array(np.nan, np.float32), "nan"))
    model.graph.node.append(helper.make_node("Add", ["logits", "nan"], ["total"], name="total"))
    model.graph.output[0].name = "total"


def one_name_twice(model: onnx.ModelProto) -> None:
    for one in model.graph.node:
        one.name = "same"


def rounded(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.array(0.1, np.float32), "step"))
    model.graph.node.append(
        helper.make_node("QuantizeLinear", ["logits", "step"], ["small"], name="the_QuantizeLinear")
    )
    model.graph.node.append(helper.make_node("DequantizeLinear", ["small", "step"], ["wide"], name="back"))
    model.graph.output[0].name = "wide"


def rounds_its_answers(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.array(1e6, np.float32), "many"))
    model.graph.node.append(helper.make_node("Mul", ["logits", "many"], ["large"], name="larger"))
    model.graph.node.append(helper.make_node("Floor", ["large"], ["whole"], name="the_Floor"))
    model.graph.node.append(helper.make_node("Sub", ["large", "whole"], ["rest"], name="rest"))
    model.graph.output[0].name = "rest"


def from_the_future(model: onnx.ModelProto) -> None:
    model.ir_version = 99


REFUSED: dict[str, tuple[Edit, list[str]]] = {
    "fixed batch": (fixed_batch, ["input images", "batch is fixed to 2"]),
    "free height": (free_height, ["input images", "height is free, besides the batch"]),
    "two inputs": (second_input, ["it has 2 inputs (images, more)"]),
    "integers": (integer_output, ["output label", "not float32"]),
    "random": (added("RandomNormalLike"), ["the_RandomNormalLike", "draws random numbers"]),
    "training": (added("Dropout", "ratio", "yes"), ["the_Dropout", "training mode"]),
    "subgraph": (branching, ["the_If", "contains a subgraph"]),
    "function": (with_function, ["it defines its own functions (Own)", "onnx.inliner"]),
    "domain": (unknown_domain, ["the_Other", "theirs.Other is not a standard ONNX operator"]),
    "half": (half_weights, ["small", "FLOAT16", "then lower its precision"]),
    "half on the way": (half_way, ["down: its precision is FLOAT16"]),
    "sparse": (sparse, ["in.onnx: cannot be read", "Sparse tensors are not supported yet); export it without"]),
    "nothing finite": (nothing_finite, ["in.onnx: the graph gives no finite numbers"]),
    "rounding": (
        rounds_its_answers,
        ["in.onnx: the rewritten graph cannot be checked", "out of the model", "(here the_Floor)"],
    ),
    "IR version": (from_the_future, ["in.onnx: its IR version is too new", "got 99", "pip install -U onnx"]),
    "names": (
        one_name_twice,
        ["in.onnx: ONNX Runtime cannot open", "same node name", "export a graph that runs there"],
    ),
    "quantised": (rounded, ["the_QuantizeLinear", "then quantise it"]),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_vouched_for_is_refused_with_its_node(kind: str, tmp_path: Path) -> None:
    edit, words = REFUSED[kind]
    source = saved(tmp_path, traced(SMALL), edit)
    with pytest.raises(InputError) as caught:
        optimize(source, tmp_path / "out.onnx")
    line = str(caught.value)
    assert caught.value.exit_code == 2
    assert [word for word in words if word not in line] == []
    assert "\n" not in line
    assert list(tmp_path.iterdir()) == [source]


def test_dropout_outside_of_training_is_taken_out(tmp_path: Path) -> None:
    source = saved(tmp_path, traced(SMALL), added("Dropout", "ratio"))
    done = optimize(source, tmp_path / "out.onnx")
    assert "Dropout" not in {one.op_type for one in onnx.load(done.output).graph.node}
    check_same(source, done.output)


def test_a_file_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    def wrong(model: onnx.ModelProto) -> None:
        del model.graph.initializer[0]

    with pytest.raises(InputError, match="not valid ONNX"):
        optimize(saved(tmp_path, traced(SMALL), wrong), tmp_path / "out.onnx")


def test_an_old_opset_is_refused(tmp_path: Path) -> None:
    source = saved(tmp_path, plain([node("Flatten", "images", "logits")], opset=11))
    with pytest.raises(InputError, match="opset 11, older than 13"):
        optimize(source, tmp_path / "out.onnx")


@pytest.mark.parametrize("content", [b"", b"junk", None])
def test_what_is_no_onnx_file_is_refused(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "in.onnx").write_bytes(content)
    with pytest.raises(InputError, match=r"no ONNX file|not an ONNX model"):
        optimize(tmp_path / "in.onnx", tmp_path / "out.onnx")


def test_an_output_that_is_there_or_cannot_be_written_is_refused_first(tmp_path: Path) -> None:
    source = saved(tmp_path, nothing_to_do())
    (tmp_path / "out.onnx").write_text("mine")
    with pytest.raises(OutputError, match="--force"):
        optimize(source, tmp_path / "out.onnx")
    with pytest.raises(OutputError, match="the output is the input"):
        optimize(source, source, force=True)
    with pytest.raises(OutputError, match="is a folder"):
        optimize(source, tmp_path, force=True)
    assert (tmp_path / "out.onnx").read_text() == "mine"
    optimize(source, tmp_path / "out.onnx", force=True)
    assert (tmp_path / "out.onnx").read_bytes() == source.read_bytes()


@pytest.mark.skipif(
    not hasattr(__import__("os"), "geteuid") or __import__("os").geteuid() == 0, reason="root may write"
)
def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    source = saved(tmp_path, nothing_to_do())
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(OutputError, match="cannot be written"):
        optimize(source, locked / "out.onnx")


# Branches that only look alike.


def other_eps(model: onnx.ModelProto) -> None:
    norms = [
        one for one in model.graph.node if one.op_type == "LayerNormalization" and "branches.1/layers.0" in one.name
    ]
    (eps,) = (attribute for attribute in norms[0].attribute if attribute.name == "epsilon")
    eps.f = 0.01


@pytest.mark.parametrize("layout", ["folded", "stacked"])
def test_a_branch_with_another_eps_is_left_alone(tmp_path: Path, layout: str) -> None:
    source = saved(tmp_path, traced(SMALL), other_eps)
    done = optimize(source, tmp_path / "out.onnx", layout=layout)
    assert "but with another axis, ε or precision" in reasons(done, "norms")
    if layout == "stacked":
        assert times(done)["stack"] == 1, "the other two"
        assert "epsilon is" in reasons(done, "stack")
    check_same(source, done.output)


@pytest.mark.parametrize("layout", ["folded", "stacked"])
def test_a_value_inside_a_branch_that_the_graph_returns_stays(tmp_path: Path, layout: str) -> None:
    name = "branches.1/layers.0/feed_forward/fc1"

    def returned(model: onnx.ModelProto) -> None:
        assert any(name in one.output for one in model.graph.node)
        model.graph.output.append(
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", SMALL.tokens, SMALL.mlp_dim])
        )

    source = saved(tmp_path, traced(SMALL), returned)
    done = optimize(source, tmp_path / "out.onnx", layout=layout)
    if layout == "stacked":
        assert "read outside of the branch" in reasons(done, "stack")
    check_same(source, done.output)


# Faults, planted into a pass: the self-check finds each, names the pass, and nothing is written.


def check_caught(tmp_path: Path, name: str, layout: str = "folded", kind: str = "") -> CheckFailed:
    source = saved(tmp_path, traced(SMALL))
    with pytest.raises(CheckFailed) as caught:
        optimize(source, tmp_path / "out.onnx", layout=layout)
    line = str(caught.value)
    assert f"from the pass {name} on" in line
    assert kind in line
    assert caught.value.exit_code == 1
    assert [one.passed for one in caught.value.checks] == [False]
    assert list(tmp_path.iterdir()) == [source]
    return caught.value


def appended(monkeypatch: pytest.MonkeyPatch, fault: Callable[[ir.Graph], Applied]) -> None:
    monkeypatch.setitem(LAYOUTS, "folded", (*LAYOUTS["folded"], fault))


def test_a_wrong_sign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = products.set_bias
    monkeypatch.setattr(offsets, "set_bias", lambda product, bias: right(product, -bias))
    check_caught(tmp_path, "offsets")


def test_a_missing_bias(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(biases, "set_bias", lambda _product, _bias: None)
    check_caught(tmp_path, "biases")


def test_a_swapped_branch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(graph: ir.Graph) -> Applied:
        one, other = (
            next(node for node in graph if is_op(node, "MatMul") and f"branches.{number}/layers.1" in str(node.name))
            for number in (0, 1)
        )
        weights = one.inputs[1], other.inputs[1]
        assert None not in weights
        one.replace_input_with(1, weights[1])
        other.replace_input_with(1, weights[0])
        return Applied("swapped", 1)

    appended(monkeypatch, fault)
    check_caught(tmp_path, "swapped")


def test_an_off_by_one_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = select.gathered

    def fault(node: ir.Node) -> Root | None:
        root = right(node)
        if root is None:
            return None
        assert isinstance(root.part, Window)
        return dataclasses.replace(root, part=dataclasses.replace(root.part, start=root.part.start + 1))

    monkeypatch.setattr(select, "gathered", fault)
    check_caught(tmp_path, "select")


def test_a_bias_that_stacking_forgets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(branch_sum.BranchSum, "add_constant", lambda *_: None)
    check_caught(tmp_path, "stack", "stacked")


def limited(graph: ir.Graph) -> Applied:
    """The images, cut off where no random image is."""
    (value,) = graph.inputs
    first = next(node for node in graph if value in node.inputs and not is_op(node, "Shape"))
    bounds = [add_constant(graph, name, np.array(bound, np.float32)) for name, bound in (("low", -9), ("high", 9))]
    index = first.inputs.index(value)
    first.replace_input_with(index, add_node(first, "Clip", [value, *bounds], name="limited"))
    return Applied("limited", 1)


def test_a_fault_that_only_very_large_numbers_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    appended(monkeypatch, limited)
    check_caught(tmp_path, "limited", kind="very large numbers")


def infinite(graph: ir.Graph) -> Applied:
    last = graph.outputs[0].producer()
    assert last is not None
    index = next(index for index, value in enumerate(last.inputs) if const(value) is not None)
    array = const(last.inputs[index])
    assert array is not None
    last.replace_input_with(index, add_constant(graph, "infinite", np.full_like(array, np.inf)))
    return Applied("infinite", 1)


def test_numbers_that_are_not_finite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    appended(monkeypatch, infinite)
    failed = check_caught(tmp_path, "infinite")
    assert "inf on" in str(failed)


def test_a_graph_that_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(graph: ir.Graph) -> Applied:
        last = graph.outputs[0].producer()
        assert last is not None
        last.inputs[0].shape = None  # type: ignore[union-attr]
        last.replace_input_with(0, add_constant(graph, "wrong", np.zeros((7, 77), np.float32)))
        return Applied("broken", 1)

    appended(monkeypatch, fault)
    source = saved(tmp_path, traced(SMALL))
    with pytest.raises(CheckFailed, match=r"does not run.*from the pass broken on"):
        optimize(source, tmp_path / "out.onnx")
    assert list(tmp_path.iterdir()) == [source]


# The self-check by itself.


def test_the_cases_are_of_every_kind_and_size() -> None:
    cases = [*self_check.cases((1, 6, 8))]
    assert {len(case.images) for case in cases} == {1, 2, 7}
    assert len({case.kind for case in cases}) == 10
    assert all(case.images.dtype == np.float32 for case in cases)
    pixels = [case.images for case in cases if case.kind == "one pixel each"]
    assert all((np.count_nonzero(images.reshape(len(images), -1), axis=1) == 1).all() for images in pixels)


def test_differences_count_where_the_first_is_finite() -> None:
    expected = np.array([[1.0, np.inf, -4.0]], np.float32)
    assert self_check.largest_difference([expected], [np.array([[1.5, 3.0, -4.0]], np.float32)]) == pytest.approx(
        0.5 / 4
    )
    assert self_check.largest_difference([expected], [np.array([[1.0, 3.0, np.nan]], np.float32)]) == np.inf
    assert self_check.largest_difference([expected], [np.array([[1.0, np.inf]], np.float32)]) == np.inf


def test_only_edge_cases_of_an_ill_conditioned_graph_may_differ_more() -> None:
    """x -> sin(1e6 x) shifts by 0.1 with the last bit of x = 1, and is 0 at 0."""

    def wild(images: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        return [np.sin(1e6 * images.astype(np.float64)).astype(np.float32)]

    reference = self_check.ReferenceAnswers(wild, (1, 6, 8), Path("wild.onnx"))
    reference.allow(wild)
    limits = {case.kind: limit for case, _, limit in reference.known}
    assert limits["random images, seed 0"] == limits["zeros"] == 1e-5
    assert limits["a constant"] > 1e-2


def test_the_offered_layouts_are_those_that_rewrite() -> None:
    assert LAYOUT_NAMES == ("folded", "stacked")
    assert rewrite.LAYOUTS is LAYOUTS
