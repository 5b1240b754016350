"""fp16 and bf16 graphs: types, answers, range, size."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, defs

from paraexport.checkpoint.load import load_checkpoint
from paraexport.checks.locate import differences
from paraexport.images.dataset import open_samples
from paraexport.model.reference import ParaFormer
from paraexport.precision.half import conversion
from paraexport.precision.half.formats import HALF_FORMATS, HalfType, misfit
from paraexport.rewrite import LAYOUTS
from tests.conftest import ROOT
from tests.precision.graphs import (
    KINDS,
    Images,
    answers,
    float32_graph,
    in_half,
    observed,
    pytorch,
    random_images,
    scaled,
    spec_of,
)
from tests.rewrite.graphs import model_of

TRAINED = {"digits": "calib/digits/test", "noisy_digits": "calib/noisy_digits.npz"}
LOGIT_ERROR = {"fp16": 0.01, "bf16": 0.05}
AGREEMENT = {"fp16": 0.999, "bf16": 0.99}
RELATIVE = {"fp16": 4e-3, "bf16": 3e-2}
"""max |Δ| / max |logit| of a small random model: some ten roundings of 2⁻¹¹ or 2⁻⁹, with room."""
FIELDS: list[dict[str, Any]] = [
    {"branches": 2},
    {"residual": "input", "pool": "mean", "depth": 1, "qkv_bias": False, "patch_projection": "conv"},
    {"residual": "post", "branches": 2, "depth": 1, "layer_scale": True, "activation": "gelu_tanh"},
    {
        "residual": "normalized",
        "pool": "patch_mean",
        "norm": "before",
        "activation": "relu",
        "patch_norms": True,
        "depth": 1,
        "branches": 2,
    },
]
FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)
IN_FLOAT32 = {"LayerNormalization", "Softmax", "Sum", "ReduceSum", "ReduceMean"}


@functools.lru_cache
def module_of(index: int, seed: int = 0) -> ParaFormer:
    return model_of(spec_of(**FIELDS[index]), seed)


@functools.lru_cache
def trained(name: str) -> tuple[ParaFormer, Images, Images]:
    """The model, its test images, and PyTorch's logits for them."""
    loaded = load_checkpoint(ROOT / f"models/{name}.pt")
    samples = open_samples(ROOT / TRAINED[name], loaded.preprocessing, loaded.labels, need_labels=True)
    images = np.concatenate([*samples.batches(64)])
    assert isinstance(loaded.module, ParaFormer)
    return loaded.module, images, pytorch(loaded.original, images)


@functools.lru_cache
def ranges(module: ParaFormer, layout: str, **options: bool) -> Mapping[str, float]:
    return observed(float32_graph(module, layout, **options), random_images(module.spec))


@functools.lru_cache
def trained_ranges(name: str, layout: str) -> Mapping[str, float]:
    module, images, _ = trained(name)
    return observed(float32_graph(module, layout), images)


def relative(got: Images, expected: Images) -> float:
    return float(np.abs(got - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", TRAINED)
def test_a_trained_model_answers_as_pytorch_does(name: str, layout: str, kind: HalfType) -> None:
    module, images, expected = trained(name)
    converted, applied = in_half(float32_graph(module, layout), kind, trained_ranges(name, layout))
    assert applied.refusals == []
    got = answers(converted, images)
    assert np.abs(got - expected).max() <= LOGIT_ERROR[kind]
    assert (got.argmax(1) == expected.argmax(1)).mean() >= AGREEMENT[kind]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("index", range(len(FIELDS)))
def test_every_kind_of_model(index: int, layout: str, kind: HalfType) -> None:
    module = module_of(index)
    converted, _ = in_half(float32_graph(module, layout), kind, ranges(module, layout))
    check_types(converted, kind)
    for batch in (1, 7):
        images = random_images(module.spec, batch)
        assert relative(answers(converted, images), pytorch(module, images)) <= RELATIVE[kind]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("index", [0, 1])
def test_branches_that_meet_in_a_sum(index: int, kind: HalfType) -> None:
    module = module_of(index)
    plain = float32_graph(module, "folded", deep_sum=False)
    converted, _ = in_half(plain, kind, observed(plain, random_images(module.spec)))
    check_types(converted, kind)
    (total,) = (node for node in converted.graph.node if "sum" in node.output)
    assert len(total.input) >= module.spec.branches
    images = random_images(module.spec)
    assert relative(answers(converted, images), pytorch(module, images)) <= RELATIVE[kind]


def test_an_attention_node_has_its_softmax_in_float32() -> None:
    module = module_of(0)
    plain = float32_graph(module, "folded", written_out=False)
    converted, _ = in_half(plain, "fp16", observed(plain, random_images(module.spec)))
    types = check_types(converted, "fp16")
    attentions = [node for node in converted.graph.node if node.op_type == "Attention"]
    assert attentions
    for node in attentions:
        assert {types[name] for name in node.input} == {TensorProto.FLOAT16}
        (precision,) = (item.i for item in node.attribute if item.name == "softmax_precision")
        assert precision == TensorProto.FLOAT
    images = random_images(module.spec)
    assert relative(answers(converted, images), pytorch(module, images)) <= RELATIVE["fp16"]


def check_types(proto: onnx.ModelProto, kind: HalfType) -> dict[str, int]:
    """The type of every value, inferred from inputs and weights; no operator mixes types, and sums are float32."""
    bare = onnx.ModelProto()
    bare.CopyFrom(proto)
    del bare.graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(bare, check_type=True, strict_mode=True).graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*inferred.input, *inferred.output)}
    types |= {value.name: value.type.tensor_type.elem_type for value in inferred.value_info}
    types |= {tensor.name: tensor.data_type for tensor in inferred.initializer}
    assert {types[value.name] for value in (*inferred.input, *inferred.output)} == {TensorProto.FLOAT}
    opset = proto.opset_import[0].version
    for node in inferred.node:
        schema = defs.get_schema(node.op_type, opset)
        formal = [*schema.inputs, *[schema.inputs[-1]] * len(node.input)]
        groups: dict[str, set[int]] = {}
        pairs = [*zip(node.input, formal, strict=False), *zip(node.output, schema.outputs, strict=False)]
        for name, item in pairs:
            if name:
                groups.setdefault(item.type_str, set()).add(types[name])
        assert all(len(group) == 1 for group in groups.values()), node
        floats = {types[name] for name in (*node.input, *node.output) if types.get(name) in FLOATS}
        both_move = node.op_type == "Add" and all(name not in weights(proto) for name in node.input)
        if node.op_type in IN_FLOAT32 or both_move:
            assert floats == {TensorProto.FLOAT}, node.name
    casts = [node for node in inferred.node if node.op_type == "Cast"]
    made_by = {node.output[0]: node for node in inferred.node if node.output}
    assert len({(node.input[0], types[node.output[0]]) for node in casts}) == len(casts), (
        "one Cast for a value and a type"
    )
    for node in casts:
        assert types[node.input[0]] != types[node.output[0]]
        before = made_by.get(node.input[0])
        assert before is None or before.op_type != "Cast"
    half_types = {types[name] for name in types} & {TensorProto.FLOAT16, TensorProto.BFLOAT16}
    assert half_types == {int(HALF_FORMATS[kind].dtype)}
    return types


def weights(proto: onnx.ModelProto) -> set[str]:
    return {tensor.name for tensor in proto.graph.initializer}


@settings(max_examples=15, deadline=None)
@given(
    index=st.integers(0, len(FIELDS) - 1),
    layout=st.sampled_from(list(LAYOUTS)),
    kind=st.sampled_from(KINDS),
    too_large=st.sets(st.integers(0, 200), max_size=30),
    seed=st.integers(0, 99),
)
def test_whatever_does_not_fit_the_rest_is_right(
    index: int, layout: str, kind: HalfType, too_large: set[int], seed: int
) -> None:
    module = module_of(index)
    largest = dict(ranges(module, layout))
    names = [*largest]
    largest |= {names[number]: float("inf") for number in too_large if number < len(names)}
    converted, applied = in_half(float32_graph(module, layout), kind, largest)
    if applied.times:
        check_types(converted, kind)
    images = random_images(module.spec, 2, seed)
    assert relative(answers(converted, images), pytorch(module, images)) <= RELATIVE[kind]


def test_a_value_that_nobody_observed_is_an_error() -> None:
    module = module_of(0)
    largest = dict(ranges(module, "folded"))
    del largest["branches.0/layers.0/attention/query"], largest["branches.1/layers.0/attention/scores"]
    with pytest.raises(ValueError, match=r"branches.0/layers.0/attention/query, branches.1/layers.0/attention/scores$"):
        in_half(float32_graph(module, "folded"), "fp16", largest)


@pytest.mark.parametrize(
    ("largest", "kind", "fits"),
    [
        (0.0, "fp16", True),
        (32752.0, "fp16", True),
        (32753.0, "fp16", False),
        (6.2e-5, "fp16", True),
        (6.0e-5, "fp16", False),
        (float("nan"), "fp16", False),
        (1.6e38, "bf16", True),
        (1.8e38, "bf16", False),
        (6.0e-5, "bf16", True),
    ],
)
def test_what_fits(largest: float, kind: HalfType, fits: bool) -> None:
    assert (misfit(largest, kind) is None) == fits


@pytest.mark.parametrize("kind", KINDS)
def test_the_largest_numbers_are_those_of_the_types(kind: HalfType) -> None:
    info = torch.finfo({"fp16": torch.float16, "bf16": torch.bfloat16}[kind])
    assert (HALF_FORMATS[kind].largest, HALF_FORMATS[kind].smallest_normal) == (info.max, info.smallest_normal)


TOO_LARGE: dict[str, tuple[dict[str, float], str]] = {
    "hidden layer": ({"fc1.weight": 2e4, "fc1.bias": 2e4}, "branches.0/layers.0/feed_forward/fc"),
    "score": ({"query.weight": 3e2, "key.weight": 3e2}, "branches.0/layers.0/attention/scores"),
    "sum": ({"fc2.weight": 2e4, "fc2.bias": 2e4}, "branches.*/layers.0/feed_forward/fc2/"),
}


@functools.lru_cache
def plain_model() -> ParaFormer:
    return model_of(spec_of(depth=1, pool="mean", norm="before", activation="relu", qkv_bias=False), 3)


@pytest.mark.parametrize("place", TOO_LARGE)
def test_what_passes_the_largest_number_of_fp16_stays_float32(place: str) -> None:
    factors, name = TOO_LARGE[place]
    module, plain = scaled(plain_model(), "folded", factors)
    images = random_images(module.spec)
    largest = observed(plain, images)
    assert max(largest.values()) > 65504
    converted, applied = in_half(plain, "fp16", largest)
    types = check_types(converted, "fp16")
    refused = [line for line in applied.refusals if line.startswith(name)]
    assert refused
    assert all("passes 65504, the largest of fp16" in line for line in refused)
    assert all(types[line.partition(":")[0]] == TensorProto.FLOAT for line in refused)
    expected = pytorch(module, images)
    assert relative(answers(converted, images), expected) <= RELATIVE["fp16"]
    unchecked, _ = in_half(plain, "fp16", dict.fromkeys(largest, 1.0))
    assert not relative(answers(unchecked, images), expected) <= 0.1


@pytest.mark.parametrize(("opset", "type_of_result"), [(20, TensorProto.FLOAT), (22, TensorProto.BFLOAT16)])
def test_a_convolution_in_bf16_is_newer_than_opset_20(opset: int, type_of_result: int) -> None:
    proto = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : {opset}]> g (float[1,2,4,4] images) => (float[1,2,4,4] y) '
        "<float[2,2,1,1] w = {1, 2, 3, 4}> { a = Conv(images, w) b = Conv(a, w) y = Conv(b, w) }"
    )
    proto = onnx.shape_inference.infer_shapes(proto)
    converted, applied = in_half(proto, "bf16", dict.fromkeys(("images", "a", "b", "y"), 1.0))
    types = {value.name: value.type.tensor_type.elem_type for value in converted.graph.value_info}
    assert types["b"] == type_of_result
    assert any("no Conv in bf16" in line for line in applied.refusals) == (opset == 20)


def test_weights_that_would_vanish_stay_float32() -> None:
    module, plain = scaled(plain_model(), "branches", {"fc2.weight": 1e-8})
    images = random_images(module.spec)
    converted, applied = in_half(plain, "fp16", observed(plain, images))
    assert any("fc2/weight is at most" in line and "below 6.1e-05" in line for line in applied.refusals)
    kept = {tensor.name: tensor.data_type for tensor in converted.graph.initializer}
    assert kept["branches.0/layers.0/feed_forward/fc2/weight"] == TensorProto.FLOAT
    assert kept["branches.0/layers.0/feed_forward/fc1/weight"] == TensorProto.FLOAT16
    _, applied = in_half(plain, "bf16", observed(plain, images))
    assert applied.refusals == []


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_value_that_keeps_the_name_of_a_tap_is_that_tap(layout: str, tmp_path: Path) -> None:
    module = module_of(0)
    # Written out, an attention's query has the scale of the scores in it.
    plain = float32_graph(module, layout, written_out=False)
    converted, _ = in_half(plain, "fp16", ranges(module, layout, written_out=False))
    before, after = ({name for node in item.graph.node for name in node.output} for item in (plain, converted))
    assert before <= after
    onnx.save(converted, tmp_path / "model.onnx")
    taps = differences(module, tmp_path / "model.onnx", random_images(module.spec))
    assert len(taps) >= 3
    assert [item for item in taps if not item.relative <= 5e-3] == []


def test_a_file_has_half_the_size_and_always_the_same_bytes() -> None:
    fields = {"dim": 192, "heads": 3, "head_dim": 64, "mlp_dim": 768, "branches": 2, "depth": 2, "classes": 100}
    module = model_of(spec_of(**fields))
    for layout, kind in itertools.product(LAYOUTS, KINDS):
        plain = float32_graph(module, layout)
        largest = dict.fromkeys(conversion.values_to_observe(ir.from_proto(plain).graph), 1.0)
        once, again = (in_half(plain, kind, largest)[0].SerializeToString() for _ in range(2))
        assert once == again
        assert len(once) <= 0.51 * len(plain.SerializeToString())
