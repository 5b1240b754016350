"""Weights that do not fit one protobuf file, with a small stand-in for the limit of 2 GiB: the same answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from numpy.typing import NDArray

import paraexport
from paraexport import targets
from paraexport.checkpoint.native import save_checkpoint
from paraexport.checks.limits import LIMITS
from paraexport.graph import onnx_file
from paraexport.images.dataset import Samples
from paraexport.images.made_up import made_up_samples
from paraexport.model.spec import LOGITS, Preprocessing
from paraexport.pipeline import candidates, validate
from paraexport.pipeline.bisect import bisect
from paraexport.pipeline.choices import AUTO, LAYOUTS, PRECISIONS
from paraexport.pipeline.options import Options
from paraexport.targets import Workload
from paraexport.targets.compilation import EngineOptions
from paraexport.targets.folder import Folder
from paraexport.targets.ort.probe import open_probe
from paraexport.timing.clock import silent
from paraexport.trace.trace import trace
from tests.rewrite.graphs import model_of
from tests.targets.engines import SMALL, require_rtx, tensorrt_rtx

LIMIT_BYTES = 40_000
"""A fifth of the weights of the model in float32, and less than they have in int8."""
MODEL, DATA = "model.onnx", "model.onnx.data"
IMAGES = Preprocessing(image_size=SMALL.image_size, channels=SMALL.channels, resize=SMALL.image_size)
RUN_HERE = ("onnxruntime", "openvino")


@pytest.fixture
def _one_file_holds_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with 2 GiB: a larger message cannot be serialised, and no library may read all weights into one."""
    serialise = ir.serde.serialize_model

    def limited(model: ir.Model) -> onnx.ModelProto:
        message = serialise(model)
        assert sum(len(tensor.raw_data) for tensor in message.graph.initializer) <= LIMIT_BYTES
        return message

    def refused(*_: object) -> None:
        raise AssertionError("all weights would be in one message")

    monkeypatch.setattr(onnx_file, "MOST_WEIGHTS_BYTES", LIMIT_BYTES)
    monkeypatch.setattr(ir.serde, "serialize_model", limited)
    monkeypatch.setattr(onnx, "load_external_data_for_model", refused)


def with_weights_inside(folder: Path, inside: Path) -> Path:
    """A copy of the model in a folder as one file, made by ONNX itself."""
    inside.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx, "load_external_data_for_model", onnx.external_data_helper.load_external_data_for_model)
        onnx.save(onnx.load(folder / MODEL), inside / MODEL)
    assert (inside / MODEL).stat().st_size > LIMIT_BYTES
    return inside


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Samples, NDArray[np.float32]]:
    """(a traced graph, images, PyTorch's logits)."""
    model, samples = model_of(SMALL), made_up_samples(IMAGES, 12)
    path = tmp_path_factory.mktemp("traced") / MODEL
    trace(model, SMALL, path, apart=True)
    with torch.no_grad():
        logits = model(torch.from_numpy(samples.pick(12))).numpy()
    return path, samples, logits


@pytest.mark.usefixtures("_one_file_holds_little")
@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_layout_answers_the_same_with_its_weights_in_a_second_file(
    precision: str, source: tuple[Path, Samples, NDArray[np.float32]], tmp_path: Path
) -> None:
    traced, samples, logits = source
    pixels = samples.pick(12)
    options = Options(precision=precision, layout=AUTO)
    made = candidates.write(traced, options, RUN_HERE, tmp_path, candidates.Images(samples, samples, logits, LOGITS))
    assert {(one.target, one.layout) for one in made} == {(name, layout) for name in RUN_HERE for layout in LAYOUTS}
    workload = Workload(image=pixels.shape[1:], max_batch=12, precision=precision)
    for one in made:
        assert {file.name for file in one.folder.iterdir()} == {MODEL, DATA}
        inside = with_weights_inside(one.folder, tmp_path / f"inside-{one.target}-{one.layout}")
        got, expected = (
            targets.get(one.target).open_session(Folder(folder), workload)(pixels) for folder in (one.folder, inside)
        )
        np.testing.assert_array_equal(got, expected)
        limit = LIMITS[precision]["parity"].value
        assert np.abs(got - logits).max() <= limit * np.abs(logits).max()


@pytest.mark.usefixtures("_one_file_holds_little")
@pytest.mark.parametrize("precision", PRECISIONS)
def test_tensorrt_compiles_the_same_with_the_weights_in_a_second_file(
    precision: str, source: tuple[Path, Samples, NDArray[np.float32]], tmp_path: Path
) -> None:
    require_rtx()
    traced, samples, logits = source
    options = Options(target=tensorrt_rtx.name, precision=precision, layout="stacked")
    images = candidates.Images(samples, samples, logits, LOGITS)
    (draft,) = candidates.write(traced, options, options.targets, tmp_path, images)
    inside = with_weights_inside(draft.folder, tmp_path / "inside")
    outside, expected = (
        tensorrt_rtx.compile_model(folder, 4, EngineOptions(), silent) for folder in (draft.folder, inside)
    )
    assert outside.products == expected.products
    assert outside.products


@pytest.mark.usefixtures("_one_file_holds_little")
def test_a_bundle_with_two_files_is_validated_and_bisected(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "small.pt", model_of(SMALL), IMAGES, ("a", "b", "c", "d", "e"))
    pixels = np.random.default_rng(0).integers(0, 256, (12, *SMALL.image_size, SMALL.channels), np.uint8)
    np.save(tmp_path / "images.npy", pixels)
    built = paraexport.build(
        tmp_path / "small.pt", tmp_path / "a.bundle", precision="int8", layout="stacked",
        calib=tmp_path / "images.npy", max_batch=4, limits={"not_int8": 100.0},
    )  # fmt: skip
    assert {MODEL, DATA} <= built.manifest.files.keys()
    assert any(check.passed for check in validate.validate(built.path, limits={"not_int8": 100.0}))
    found = bisect(built.path)
    assert len(found.parts) > 1
    assert found.culprit is None
    assert not any(part.failure for part in found.parts)


def graph_of(weight: ir.TensorProtocol) -> ir.Model:
    """x -> x · W as float32, the weight cast where it is of another type."""
    images = ir.Value(name="x", shape=ir.Shape(["n", 32]), type=ir.TensorType(ir.DataType.FLOAT))
    constant = ir.Value(name="w", shape=ir.Shape([32, 8]), type=ir.TensorType(weight.dtype), const_value=weight)
    cast = ir.node("Cast", [constant], attributes={"to": ir.DataType.FLOAT})
    product = ir.node("MatMul", [images, *cast.outputs])
    product.outputs[0].name, product.outputs[0].type = "y", images.type
    product.outputs[0].shape = ir.Shape(["n", 8])
    graph = ir.Graph(
        [images], product.outputs, nodes=[cast, product], initializers=[constant], opset_imports={"": 20}, name="g"
    )
    return ir.Model(graph, ir_version=10)


NUMBERS = np.random.default_rng(0).integers(-8, 8, (32, 8)).astype(np.float32)
X = np.random.default_rng(1).integers(-8, 8, (3, 32)).astype(np.float32)


@pytest.mark.parametrize("name", ["FLOAT", "FLOAT16", "BFLOAT16", "DOUBLE", "INT8", "INT32"])
def test_a_probe_hands_over_weights_of_every_type(name: str) -> None:
    dtype = ir.DataType[name]
    model = graph_of(ir.tensor(NUMBERS.astype(dtype.numpy()), dtype, name="w"))
    before = ir.to_proto(model).SerializeToString()
    with open_probe(model, ["y"]) as run:
        (got,) = run(X)
    np.testing.assert_array_equal(got, X @ NUMBERS)
    assert ir.to_proto(model).SerializeToString() == before


def test_weights_of_a_file_need_not_be_aligned(tmp_path: Path) -> None:
    (tmp_path / "w.data").write_bytes(b"???" + NUMBERS.tobytes())
    shape = ir.Shape([32, 8])
    weight = ir.ExternalTensor("w.data", 3, NUMBERS.nbytes, ir.DataType.FLOAT, shape=shape, name="w", base_dir=tmp_path)
    with open_probe(graph_of(weight), ["y"]) as run:
        np.testing.assert_array_equal(run(X)[0], X @ NUMBERS)


def test_a_graph_without_weights_is_the_same_wherever_they_are(tmp_path: Path) -> None:
    inside = graph_of(ir.tensor(NUMBERS, name="w"))
    onnx_file.save(inside, tmp_path / MODEL, apart=True)
    (graph, weights), (other, mapped) = map(onnx_file.without_weights, (inside, onnx_file.load(tmp_path / MODEL)))
    assert len(graph.SerializeToString()) < NUMBERS.nbytes
    for name in ("node", "initializer", "input", "output"):
        assert list(getattr(graph.graph, name)) == list(getattr(other.graph, name))
    np.testing.assert_array_equal(weights["w"].numpy(), mapped["w"].numpy())
    content = (tmp_path / DATA).read_bytes()
    assert content == NUMBERS.tobytes()


def test_pages_that_are_given_back_are_read_again(tmp_path: Path) -> None:
    onnx_file.save(graph_of(ir.tensor(NUMBERS, name="w")), tmp_path / MODEL, apart=True)
    (weight,) = (value.const_value for value in onnx_file.load(tmp_path / MODEL).graph.initializers.values())
    assert weight is not None
    array = weight.numpy()
    onnx_file.forget_pages([weight])
    np.testing.assert_array_equal(array, NUMBERS)
