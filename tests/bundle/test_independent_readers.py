"""Programs that know nothing but the manifest get the same bits as our engine, and the same pixels."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from numpy.typing import NDArray

import paraexport
from paraexport import targets
from paraexport.targets import saturation
from tests.images.resampling import resized
from tests.targets.test_targets import skip_where_missing

Array = NDArray[np.float32]
PRECISIONS = ("fp32", "fp16", "bf16", "int8")


def settings_of(runtime: dict[str, Any]) -> dict[str, str]:
    """The settings on this CPU, by a test of its own: a product of the largest numbers."""
    more = runtime["settings_if_int8_saturates"]
    return {**runtime["settings"], **(more if more and saturates(runtime["library"]) else {})}


def saturates(library: str) -> bool:
    if library == "openvino":
        from paraexport.targets import openvino

        return openvino.saturates()
    import onnxruntime
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b"], ["y"])], "product",
        [helper.make_tensor_value_info("a", TensorProto.UINT8, ["m", "k"]),
         helper.make_tensor_value_info("b", TensorProto.INT8, ["k", "n"])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, ["m", "n"])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return saturation.saturates(lambda images, weight: session.run(None, {"a": images, "b": weight})[0])


def read_with_onnxruntime(bundle: Path, runtime: dict[str, Any], images: Array) -> Array:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    for name, value in settings_of(runtime).items():
        if name == "graph_optimization_level":
            options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, value)
        else:
            options.add_session_config_entry(name, value)
    session = onnxruntime.InferenceSession(bundle / runtime["file"], options, providers=[runtime["device"]])
    return np.asarray(session.run(None, {"images": images})[0], np.float32)


def read_with_openvino(bundle: Path, runtime: dict[str, Any], images: Array) -> Array:
    import openvino

    compiled = openvino.Core().compile_model(bundle / runtime["file"], runtime["device"], settings_of(runtime))
    return np.asarray(compiled({0: images})[0], np.float32)


READERS: dict[str, Callable[[Path, dict[str, Any], Array], Array]] = {
    "onnxruntime": read_with_onnxruntime,
    "openvino": read_with_openvino,
}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("target", READERS)
def test_a_reader_that_knows_the_manifest_alone_gets_the_same_bits(
    target: str, precision: str, small: Path, tmp_path: Path
) -> None:
    skip_where_missing(target)
    images = np.random.default_rng(0).standard_normal((40, 1, 8, 12)).astype(np.float32).clip(-1, 1)
    np.save(tmp_path / "images.npy", images)
    built = paraexport.build(
        small, tmp_path / "a.bundle", target=target, precision=precision, layout="stacked",
        calib=tmp_path / "images.npy", limits={"not_int8": 100.0} if precision == "int8" else {},
    )  # fmt: skip
    runtime = json.loads((built.path / "manifest.json").read_text(encoding="utf-8"))["runtime"]
    assert runtime["library"] == target
    np.testing.assert_array_equal(
        READERS[target](built.path, runtime, images[:7]), paraexport.load(built.path)(images[:7])
    )


def test_the_raw_images_of_the_golden_file_prove_the_preprocessing(digits: Any) -> None:
    """Resize, crop and normalisation by an implementation in integers and float32 that reads the manifest alone."""
    manifest = json.loads((digits.path / "manifest.json").read_text(encoding="utf-8"))["preprocessing"]
    tensors = safetensors.numpy.load_file(digits.path / "golden.safetensors")
    count = sum(name.startswith("pixels.") for name in tensors)
    assert count == 8
    assert len({tensors[f"pixels.{number}"].shape for number in range(count)}) >= 4
    (height, width), resize = manifest["image_size"], manifest["resize"]
    for number in range(count):
        pixels = resized(tensors[f"pixels.{number}"], resize[0], resize[1], manifest["interpolation"])
        top, left = round((resize[0] - height) / 2), round((resize[1] - width) / 2)
        cropped = pixels[top : top + height, left : left + width].transpose(2, 0, 1).astype(np.float32)
        mean, std = (np.array(manifest[name], np.float32).reshape(-1, 1, 1) for name in ("mean", "std"))
        prepared = (cropped / np.float32(255) - mean) / std
        np.testing.assert_array_equal(prepared, tensors[f"prepared.{number}"])
        logits = paraexport.load(digits.path)(prepared[None])[0]
        expected = tensors[f"logits.{number}"]
        assert np.abs(logits - expected).max() <= 1e-5 * np.abs(expected).max()


def test_every_target_states_how_it_runs() -> None:
    from tests.bundle.test_bundle import runtime_of

    for name in targets.TARGETS:
        if targets.compiler(name) is None:
            runtime = runtime_of(name, "int8")
            assert (runtime.library, runtime.file) == (name.partition("-")[0], "model.onnx")
            assert all(isinstance(value, str) for value in runtime.settings_for(saturates=True).values())
