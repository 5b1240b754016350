"""A manifest that somebody changed, with digests that fit: refused in one line, and nothing runs or grows."""

import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from safetensors.numpy import save_file

import paraexport
from paraexport.bundle import Bundle
from paraexport.errors import BundleError, InputError, MissingError, ParaexportError
from paraexport.pipeline import validate
from paraexport.pipeline.bisect import bisect
from tests.bundle.forging import Change, copied, forge
from tests.bundle.test_bundle import runtime_of


@pytest.fixture
def forged(small_bundle: Bundle, tmp_path: Path) -> Path:
    return copied(small_bundle.path, tmp_path / "a.bundle")


def put(path: str, value: object) -> Change:
    """Set what stands at `preprocessing.resize`, `outputs.0.shape`, …"""

    def change(raw: dict[str, Any]) -> None:
        *steps, last = path.split(".")
        place: Any = raw
        for step in steps:
            place = place[int(step) if step.isdecimal() else step]
        place[int(last) if last.isdecimal() else last] = value

    return change


def for_target(target: str) -> Change:
    return lambda raw: raw.update(target=target, runtime=msgspec.to_builtins(runtime_of(target)))


REFUSED = [
    ("preprocessing.resize", 0, r"resize is 0, expected 1 to 65536 pixels"),
    ("preprocessing.resize", -5, r"resize is -5"),
    ("preprocessing.resize", [8, 0], r"resize is 8 x 0"),
    ("preprocessing.resize", 10**12, r"resize is 1000000000000"),
    ("preprocessing.resize", True, r"malformed"),
    ("preprocessing.resize", [8, 12, 3], r"malformed"),
    ("preprocessing.mean", [], r"mean has 0 numbers for \d channels"),
    ("preprocessing.mean", [0.1] * 7, r"mean has 7 numbers"),
    ("preprocessing.std", [0.0], r"std is 0, expected at least 1e-06"),
    ("preprocessing.std", [1e-40], r"std is 1e-40, expected at least 1e-06"),
    ("preprocessing.std", [1e300], r"std is 1e\+300, expected numbers up to 10000"),
    ("preprocessing.mean", [-1e5], r"mean is -100000, expected numbers up to 10000"),
    ("max_batch", 4097, r"max_batch is 4097, expected 1 to 4096"),
    ("scores.kind", "independent", r"scores by softmax are independent"),
    ("scores.negative", "no", r"a negative label for \d outputs"),
    ("spec.classes", 11, r"spec: channels, height, width and classes are .* 11\]"),
    ("spec.heads", 0, r"spec: heads is 0"),
    ("spec.dim", 2**62, r"spec: dim is"),
    ("checks.0.passed", False, r"check parity failed"),
    ("precision", "int8", r"int8 without a record of lower precision"),
    ("preprocessing.std", [float("nan")], r"nan at \$\.preprocessing\.std\[0\]"),
    ("preprocessing.mean", [float("inf")], r"inf at"),
    ("preprocessing.interpolation", "magic", r"malformed"),
    ("preprocessing.rotate", 90, r"unknown fields .*preprocessing\.rotate"),
    ("source.author", "me", r"unknown fields .*source\.author"),
    ("checks.0.weight", 1, r"unknown fields .*checks\.0\.weight"),
    ("inputs.0.layout", "NHWC", r"unknown fields .*inputs\.0\.layout"),
    ("labels.0", "a\ud800", r"surrogate\) at \$\.labels\[0\]"),
    ("evidence", "\udfff", r"surrogate\) at \$\.evidence"),
    ("versions", {"\ud83d": "1"}, r"surrogate\) at a key of \$\.versions"),
    ("labels", ["a"], r"1 labels for \d classes"),
    ("max_batch", 2**31, r"max_batch is 2147483648, expected 1 to \d+"),
    ("max_batch", 10**30, r"malformed|max_batch is"),
    ("max_batch", -1, r"max_batch is -1"),
    ("max_batch", 2.5, r"malformed"),
    ("outputs.0.shape", ["batch", 0], r"fixed sizes"),
    ("outputs.0.shape", ["batch", "classes"], r"fixed sizes"),
    ("inputs.0.shape", ["batch", 3, -8, 12], r"fixed sizes"),
    ("inputs.0.shape", [], r"expected one input \[N, C, H, W\]"),
    ("files.model.onnx", {"sha256": "0" * 64, "size_bytes": -1}, r"-1 bytes|was changed"),
    ("target", "tpu", r"unknown target"),
    ("precision", 5, r"malformed"),
    ("format", "1", r"malformed"),
    ("format", 0, r"unknown format"),
]


@pytest.mark.parametrize(("path", "value", "message"), REFUSED, ids=[f"{row[0]}={row[1]!r:.30}" for row in REFUSED])
def test_what_cannot_be_is_refused(path: str, value: object, message: str, forged: Path) -> None:
    if path == "files.model.onnx":
        forge(forged, lambda raw: raw["files"].update({"model.onnx": value}))
    else:
        forge(forged, put(path, value))
    with pytest.raises(ParaexportError, match=message) as caught:
        paraexport.load(forged)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code in (2, 3)


def six_classes(raw: dict[str, Any]) -> None:
    raw["outputs"][0]["shape"][1] = 6
    raw["labels"].append("f")
    raw["spec"] = None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (six_classes, r"output logits float32 \[\?, 5\], the"),
        (put("inputs.0.name", "pixels"), r"input images float32 .*, the manifest says pixels"),
        (put("outputs.0.name", "scores"), r"output logits .*, the manifest says scores"),
        (put("inputs.0.dtype", "float16"), r"the manifest says images float16"),
    ],
)
@pytest.mark.parametrize("target", ["onnxruntime", "openvino"])
def test_a_model_that_the_manifest_does_not_describe_does_not_open(
    change: Change, message: str, target: str, forged: Path
) -> None:
    forge(forged, lambda raw: (change(raw), for_target(target)(raw)))
    with pytest.raises(BundleError, match="the model does not match the manifest .*" + message):
        paraexport.load(forged)


@pytest.mark.parametrize("target", ["onnxruntime", "openvino"])
def test_an_unchanged_one_opens(target: str, forged: Path) -> None:
    forge(forged, for_target(target))
    paraexport.load(forged)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw.pop("runtime"), "format 2 without a runtime block"),
        (put("format", 1), "format 1 with a runtime block"),
        (put("runtime.library", "libtorch"), r"unknown runtime library \(expected onnxruntime, got libtorch"),
        (put("runtime.device", "XnnpackExecutionProvider"), "unknown runtime device .expected CPUExecutionProvider"),
        (put("runtime.file", "manifest.json"), "opens manifest.json, which the manifest does not list"),
        (put("runtime.file", "report.json"), "report.json, which the manifest does not list|unknown runtime file"),
        (put("runtime.settings", {"session.use_ort_model_bytes_directly": "1"}), "unknown runtime setting"),
        (put("runtime.settings", {"graph_optimization_level": "ALL"}), "unknown graph_optimization_level"),
        (put("runtime.settings_if_int8_saturates", {"ep.context_file_path": "/tmp"}), "unknown runtime setting"),
        (put("runtime.device_options", {"device_id": "0"}), "unknown runtime device option"),
        (put("runtime.environment", {"LD_PRELOAD": "evil.so"}), "unknown runtime environment variable"),
        (put("runtime.settings", {"graph_optimization_level": 1}), "the manifest is malformed"),
        (put("runtime.extra", "1"), r"unknown fields .got runtime\.extra"),
    ],
)
def test_a_runtime_block_that_cannot_be_followed_is_refused(change: Change, message: str, forged: Path) -> None:
    forge(forged, change)
    with pytest.raises(BundleError, match=message) as caught:
        paraexport.load(forged)
    assert caught.value.exit_code == 2


def test_an_older_library_is_named_with_the_command_that_updates_it(forged: Path) -> None:
    forge(forged, put("runtime.minimum_version", "99.1"))
    with pytest.raises(MissingError, match=r"too old for this bundle .expected 99\.1 or later.*pip install") as caught:
        paraexport.load(forged)
    assert caught.value.exit_code == 3


def test_a_bundle_of_format_1_has_no_runtime_block_and_opens(forged: Path) -> None:
    forge(forged, lambda raw: (raw.pop("runtime"), put("format", 1)(raw)))
    images = np.random.default_rng(0).standard_normal((2, 1, 8, 12), np.float32)
    assert paraexport.load(forged)(images).shape == (2, 5)


def golden(images: tuple[int, ...], logits: tuple[int, ...], dtype: str = "float32") -> dict[str, Any]:
    return {"images": np.zeros(images, dtype), "logits": np.zeros(logits, np.float32)}


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (golden((2, 1, 8, 12), (2, 6)), "belongs to another model"),
        (golden((2, 1, 8, 8), (2, 5)), "belongs to another model"),
        (golden((2, 1, 8, 12), (3, 5)), "malformed"),
        (golden((0, 1, 8, 12), (0, 5)), "malformed"),
        (golden((2, 96), (2, 5)), "malformed"),
        (golden((2, 1, 8, 12), (2, 5), "float64"), "malformed"),
        ({"images": np.zeros((2, 1, 8, 12), np.float32)}, "cannot be read .*expected images and logits"),
    ],
)
def test_golden_data_of_another_form_is_refused(tensors: dict[str, Any], message: str, forged: Path) -> None:
    save_file(tensors, forged / "golden.safetensors")
    forge(forged)
    with pytest.raises(BundleError, match=message):
        validate.validate(forged)


@pytest.mark.parametrize("name", ["golden.safetensors", "report.json"])
def test_a_file_that_is_there_but_not_listed_is_not_read(name: str, forged: Path) -> None:
    forge(forged, lambda raw: raw["files"].pop(name))
    paraexport.load(forged)  # the model itself is fine
    with pytest.raises(BundleError, match=rf"{name}: the manifest does not list this file"):
        validate.validate(forged) if name.startswith("golden") else bisect(forged)


def test_weights_that_are_not_listed_are_not_read(forged: Path) -> None:
    """The model names its weights by a path: a file that was not verified must not be what the runtime finds there."""
    import onnx

    model = onnx.load(forged / "model.onnx")
    onnx.save(model, forged / "model.onnx", save_as_external_data=True, location="model.onnx.data", size_threshold=256)
    forge(forged)
    with pytest.raises(BundleError, match="cannot open the model"):
        paraexport.load(forged)
    entry = {"sha256": "", "size_bytes": 0}
    shutil.copy(forged / "model.onnx.data", forged / "other.data")
    forge(forged, lambda raw: raw["files"].update({"model.onnx.data": entry}))
    forge(forged)
    with pytest.raises(BundleError, match=r"files that the manifest does not list .*other\.data"):
        paraexport.load(forged)
    (forged / "other.data").unlink()
    paraexport.load(forged)


def test_a_build_never_writes_a_batch_that_no_reader_takes(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paraexport.bundle.manifest.BATCH_BYTES", 4 * 4 * 1 * 8 * 12)
    with pytest.raises(InputError, match=r"--max-batch: too many images .*expected at most 4 images of 1 x 8 x 12"):
        paraexport.build(small, tmp_path / "a.bundle", max_batch=5)
    assert list(tmp_path.iterdir()) == []
