"""Parts of graphs: together they are the whole, a quantised product keeps its Q/DQ, and TensorRT compiles each."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from numpy.typing import NDArray

from paraexport.bundle import Bundle
from paraexport.checks import engine_or_graph
from paraexport.checks.bisection.cut import Part, cut, up_to
from paraexport.checks.bisection.regions import regions, stacked_nodes
from paraexport.checks.bisection.submodel import pack, submodel, unpack
from paraexport.checks.bisection.values import Form, ReferenceGraph, forms
from paraexport.graph.onnx_file import save
from paraexport.targets.profiles import Profile
from tests.rewrite.small_graphs import branches, graph_of, summed
from tests.targets.engines import SMALL, compile_here, write_graph

IMAGES = np.random.default_rng(0).standard_normal((3, 1, 8, 8), np.float32)
CASES = [("branches", "fp32"), ("folded", "bf16"), ("folded", "int8"), ("stacked", "fp16"), ("stacked", "int8")]
STACKED = ["stem", "branches.*", "sum and head"]
APART = ["stem", "branches.0", "branches.1", "branches.2", "sum and head"]


class Graph:
    """A graph for TensorRT, cut into its regions."""

    def __init__(self, layout: str, precision: str, small_bundle: Bundle, folder: Path) -> None:
        write_graph(SMALL, layout, precision, folder)
        manifest = dataclasses.replace(small_bundle.manifest, precision=precision)
        self.reference = ReferenceGraph(engine_or_graph.load_with_rounding(Bundle(folder, manifest)))
        self.model = ir.load(folder / "model.onnx")
        self.forms = forms(self.model.graph, self.reference, IMAGES)
        self.labels = regions(self.model.graph, self.forms)
        self.parts = cut(self.model.graph, self.labels, self.forms)


@pytest.fixture
def graph(request: pytest.FixtureRequest, small_bundle: Bundle, tmp_path: Path) -> Graph:
    layout, precision = request.param
    return Graph(layout, precision, small_bundle, tmp_path / "graph")


def run(model: ir.Model, given: NDArray[np.float32]) -> NDArray[np.float32]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    (answer,) = session.run(None, {"images": given})
    return np.asarray(answer)


@pytest.mark.parametrize("graph", CASES, indirect=True, ids="-".join)
def test_every_part_compiles_in_a_real_tensorrt(graph: Graph, tmp_path: Path) -> None:
    """And a prefix; each is a model of one input and one output with the batch in front."""
    for number, part in enumerate([*graph.parts, up_to(graph.model.graph, graph.parts[1], graph.forms)]):
        folder = tmp_path / str(number)
        folder.mkdir()
        model = submodel(graph.model, part, graph.forms)
        assert [len(side) for side in (model.graph.inputs, model.graph.outputs)] == [1, 1]
        save(model, folder / "model.onnx")
        assert compile_here(folder).profiles == (Profile(1, 8, 16),)


@pytest.mark.parametrize("graph", [one for one in CASES if one[1] in ("fp32", "int8")], indirect=True, ids="-".join)
def test_parts_one_after_the_other_answer_as_the_whole(graph: Graph) -> None:
    """Nothing but the images is given: every part reads what the parts before it answered."""
    source, output = graph.model.graph.inputs[0].name or "", graph.model.graph.outputs[0].name or ""
    known: dict[str, NDArray[np.float32]] = {source: IMAGES}
    for part in graph.parts:
        answer = run(submodel(graph.model, part, graph.forms), pack(known, part.inputs, len(IMAGES)))
        known |= unpack(answer, part.outputs, graph.forms)
    expected = graph.reference.floats([output], IMAGES)[output]
    assert np.abs(known[output] - expected).max() <= 1e-6 * np.abs(expected).max()


@pytest.mark.parametrize("graph", CASES, indirect=True, ids="-".join)
def test_regions_are_few_and_cover_the_graph(graph: Graph) -> None:
    stacked = "branches.*" in {part.name for part in graph.parts}
    assert [part.name for part in graph.parts] == (STACKED if stacked else APART)
    assert graph.labels.keys() == {*graph.model.graph}
    assert bool(stacked_nodes(graph.model.graph, graph.forms)) == stacked
    assert graph.parts[0].inputs == ("images",)
    assert graph.parts[-1].outputs == ("logits",)


@pytest.mark.parametrize("graph", [("folded", "int8")], indirect=True, ids="-".join)
def test_a_quantised_product_is_not_cut_from_its_quantising(graph: Graph) -> None:
    """The first products of all branches read the same integers; each part makes its own."""
    for part in graph.parts[1:4]:
        model = submodel(graph.model, part, graph.forms)
        products = [node for node in model.graph if node.op_type == "MatMul" and node.name in integer_products(part)]
        assert products
        for node in products:
            assert [source.op_type for value in node.inputs if value and (source := value.producer())] == [
                "DequantizeLinear",
                "DequantizeLinear",
            ]


@pytest.mark.parametrize("graph", [("stacked", "int8")], indirect=True, ids="-".join)
def test_a_product_is_not_cut_from_its_bias(graph: Graph) -> None:
    """Whatever modules they are named after: the last product of attention is, and its bias is not, `Attention`'s."""
    values = {value.name: value for node in graph.model.graph for value in node.outputs}
    sums = [node for node in graph.model.graph if node.op_type == "Add"]
    biases = [node for node in sums if any(value and value.is_initializer() for value in node.inputs)]
    names = {value.name for node in biases for value in node.inputs if value and not value.is_initializer()}
    products = {name for name in names if (maker := values[name].producer()) and maker.op_type == "MatMul"}
    assert len(products) >= 6
    assert not products & graph.forms.keys()


def integer_products(part: Part) -> set[str | None]:
    """Products of a part whose weight is stored in integers."""
    return {
        node.name
        for node in part.nodes
        if node.op_type == "MatMul"
        and (value := node.inputs[1]) is not None
        and (source := value.producer()) is not None
        and source.op_type == "DequantizeLinear"
    }


def test_a_view_that_all_read_is_the_stems_whatever_it_is_named_after() -> None:
    model = graph_of(branches(3), summed(3))
    first = model.graph[0]
    assert first.name
    shared = ir.node("Identity", [model.graph.inputs[0]], name="branches.0/view/Identity")
    model.graph.insert_before(first, shared)
    for use in [*model.graph.inputs[0].uses()]:
        if use.node is not shared:
            use.node.replace_input_with(use.idx, shared.outputs[0])
    labels = regions(model.graph, {})
    assert labels[shared] == "stem"
    assert {label for node, label in labels.items() if node is not shared} >= {
        f"branches.{index}" for index in range(3)
    }
    assert labels[model.graph[-1]] == "sum and head"


@pytest.mark.parametrize("graph", [("stacked", "fp16")], indirect=True, ids="-".join)
def test_a_cut_is_only_where_numbers_are_that_grow_with_the_batch(graph: Graph) -> None:
    values = {value.name: value for node in graph.model.graph for value in node.outputs}
    known: Mapping[str, Form] = graph.forms
    assert known["images"] == Form((1, 1, 8, 8), 0, ir.DataType.FLOAT)
    halves = [name for name, form in known.items() if form.dtype == ir.DataType.FLOAT16]
    assert halves
    assert all(values[name].dtype == ir.DataType.FLOAT16 for name in halves)
    seven = np.resize(IMAGES, (7, 1, 8, 8))
    for name, value in graph.reference.floats(known, seven).items():
        sizes = [7 * size if axis == known[name].axis else size for axis, size in enumerate(known[name].dims)]
        assert [*value.shape] == sizes
    assert not any(values[name].dtype == ir.DataType.INT64 for name in known if name in values)
