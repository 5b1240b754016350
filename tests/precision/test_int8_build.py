"""int8 from end to end: the results of a build, errors for bad input, and checks that fail for a wrong model."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper
from PIL import Image
from torch import nn

import paraexport
from paraexport.bundle import MODEL, Bundle, read_bundle, report
from paraexport.checkpoint.native import save_checkpoint
from paraexport.checks.limits import LIMITS
from paraexport.checks.verdicts import Evidence, Int8Coverage, run_checks
from paraexport.errors import CheckFailed, InputError
from paraexport.model.spec import Classifier, Preprocessing
from paraexport.pipeline import candidates, validate
from paraexport.precision.int8 import lowering
from paraexport.targets.folder import Folder
from paraexport.trace import trace
from tests.cli.conftest import Run
from tests.conftest import LABELS, ROOT
from tests.rewrite.graphs import model_of
from tests.trace.test_trace import small_spec

SPEC = small_spec()
LOOSE = {"parity": 1.0, "batches": 1.0, "cosine": 1.0, "disagreement": 100.0}
"""For models whose weights nobody trained, on images of noise."""


@pytest.fixture(scope="module", autouse=True)
def traced_once() -> Iterator[None]:
    """torch's own export takes most of a build; the same module is exported once."""
    real = trace.trace
    kept: dict[tuple[Any, ...], tuple[Any, dict[str, bytes]]] = {}

    def once(module: nn.Module, classifier: Classifier, path: Path, **options: Any) -> Any:
        key = (
            type(module).__qualname__,
            *((name, float(value.double().sum())) for name, value in module.state_dict().items()),
            *options,
        )
        if key not in kept:
            graph = real(module, classifier, path, **options)
            kept[key] = graph, {file.name: file.read_bytes() for file in path.parent.iterdir()}
        for name, content in kept[key][1].items():
            path.with_name(name).write_bytes(content)
        return dataclasses.replace(kept[key][0], path=path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trace, "trace", once)
        yield


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoints") / "random.pt"
    images = Preprocessing(image_size=SPEC.image_size, channels=1, resize=SPEC.image_size)
    save_checkpoint(path, model_of(SPEC), images, LABELS)
    return path


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    numbers = np.random.default_rng(0)
    for index in range(20):
        Image.fromarray(numbers.integers(0, 256, SPEC.image_size, np.uint8)).save(folder / f"{index:02}.png")
    return folder


@pytest.fixture(scope="module")
def built(checkpoint: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Two parts are kept by hand."""
    return paraexport.build(
        checkpoint, tmp_path_factory.mktemp("bundles") / "a.bundle", precision="int8", calib=photos, max_batch=8,
        keep=("branches.1", "branches.2/layers.0"), limits=LOOSE,
    )  # fmt: skip


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def facts(bundle: Bundle) -> dict[str, Any]:
    return {check.name: check.value for check in bundle.manifest.checks}


def test_an_example_from_end_to_end(run: Run, tmp_path: Path) -> None:
    output = tmp_path / "digits.bundle"
    done = run(
        "build", ROOT / "models/digits.pt", "-o", output, "--precision", "int8", "--data", ROOT / "calib/digits/test",
        "--calib", ROOT / "calib/digits/calibration", "--max-drop", 0.2,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "onnxruntime int8, layout folded" in done.out
    assert "no branch or layer is kept in float32: 0 " in done.out
    assert "error of the sum z over branches" in done.out
    assert "warning" not in done.err
    bundle = read_bundle(output)
    checks = {check.name: check for check in bundle.manifest.checks}
    # --max-drop limits accuracy, and then no disagreement is too large.
    assert {name: check.passed for name, check in checks.items()} == {
        **dict.fromkeys(LIMITS["int8"], True),
        "disagreement": None,
    }
    assert checks["not_int8"].value == 0
    assert checks["accuracy_drop"].samples == 359
    page = (output / "report.html").read_text(encoding="utf-8")
    for words in (
        "% of the multiply-adds in products with weights run in lower precision",
        "64 images from",
        "Error of each branch and layer",
    ):
        assert words in page
    shown = run("validate", output)
    assert shown.code == 0, shown.err
    assert any(line.split()[:2] == ["not_int8", "passed"] for line in shown.out.splitlines())


def test_parts_kept_by_hand(built: Bundle) -> None:
    found = built.manifest.lowering
    assert found is not None
    assert (found.kept, found.reason) == (("branches.1", "branches.2/layers.0"), "kept by hand")
    assert {one.part for one in found.errors if one.kept} == {
        "branches.1", "branches.1/layers.0", "branches.1/layers.1", "branches.2/layers.0",
    }  # fmt: skip
    assert not [name for name in found.products if name.startswith(("branches.1/", "branches.2/layers.0/"))]
    stored = onnx.load(built.path / MODEL).graph.initializer
    integers = {tensor.name for tensor in stored if tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) > 1}
    layers = {"/".join(name.split("/")[:2]) for name in integers}
    assert layers == {"branches.0/layers.0", "branches.0/layers.1", "branches.2/layers.1"}
    assert facts(built)["not_int8"] == 0


def test_the_same_calibration_gives_the_same_bytes(
    checkpoint: Path, photos: Path, built: Bundle, tmp_path: Path
) -> None:
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for file in photos.iterdir():
        (moved / file.name).write_bytes(file.read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path / "another cache"))
        again = paraexport.build(
            checkpoint, tmp_path / "b.bundle", precision="int8", calib=moved, max_batch=8,
            keep=("branches.1", "branches.2/layers.0"), limits=LOOSE,
        )  # fmt: skip
    assert sha256(again.path / MODEL) == sha256(built.path / MODEL)


def test_validated_again_it_is_still_int8(built: Bundle, checkpoint: Path) -> None:
    for given in (None, checkpoint):
        checks = {check.name: check for check in validate.validate(built.path, given, limits=LOOSE)}
        assert (checks["not_int8"].passed, checks["not_int8"].value) == (True, 0.0)
        assert checks["accuracy_drop"].passed is None
        assert checks["parity"].passed


def test_a_bundle_that_runs_in_float32_fails_validation(built: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    from paraexport.targets.ort.target import OnnxRuntime

    some = sorted(built.manifest.lowering.products)[1:] if built.manifest.lowering else []
    monkeypatch.setattr(OnnxRuntime, "int8_products", lambda self, folder: frozenset(some))
    with pytest.raises(CheckFailed, match=r"not_int8 is .*at most 5 %"):
        validate.validate(built.path, limits=LOOSE)


WRONG: dict[str, tuple[Callable[[NDArray[np.float32]], NDArray[np.float32]], set[str]]] = {
    "turned round": (lambda logits: -logits, {"parity", "batches", "cosine", "disagreement", "accuracy_drop"}),
    "shifted a class": (lambda logits: np.roll(logits, 1, 1), {"parity", "cosine", "disagreement", "accuracy_drop"}),
    "scaled by 1.3": (lambda logits: logits * np.float32(1.3), {"parity", "batches"}),
    "noise": (
        lambda logits: logits + np.random.default_rng(0).normal(0, 0.5, logits.shape).astype(np.float32),
        {"parity", "batches", "cosine"},
    ),
    "not finite": (lambda logits: logits * np.float32(np.nan), {"parity", "batches", "cosine", "disagreement"}),
}  # fmt: skip


@pytest.mark.parametrize(("wrong", "failing"), WRONG.values(), ids=WRONG)
def test_each_check_fails_for_a_model_that_is_wrong(wrong: Any, failing: set[str]) -> None:
    numbers = np.random.default_rng(1)
    images = numbers.normal(size=(300, 1, 2, 3)).astype(np.float32)
    weights = numbers.normal(size=(6, 4)).astype(np.float32)

    def right(images: NDArray[np.float32]) -> NDArray[np.float32]:
        return images.reshape(-1, 6) @ weights

    labels = right(images).argmax(1)
    evidence = Evidence([(images, right(images))], labels, images[:8], right(images[:8]), Int8Coverage(3, 100, 96))
    good = {check.name: check.passed for check in run_checks("int8", right, evidence, max_batch=8).checks}
    assert good == dict.fromkeys(LIMITS["int8"], True)
    done = run_checks("int8", lambda images: wrong(right(images)), evidence, max_batch=8).checks
    failed = {check.name for check in done if check.passed is False}
    assert failed >= failing
    assert "not_int8" not in failed


def test_a_runtime_that_does_not_tell_is_not_called_passed() -> None:
    images, logits = np.zeros((3, 1, 2, 3), np.float32), np.eye(3, dtype=np.float32)
    for lowered, reason in (
        (Int8Coverage(7, 100, "it is secret"), "it is secret"),
        (None, "no product is meant for int8"),
    ):
        evidence = Evidence([(images, logits)], None, images, logits, lowered)
        checks = run_checks("int8", lambda images: np.resize(logits, (len(images), 3)), evidence, max_batch=3).checks
        (found,) = (check for check in checks if check.name == "not_int8")
        assert (found.passed, found.value, found.samples) == (None, None, 0)
        assert reason in found.reason


@pytest.mark.parametrize(("done", "passed"), [(100, True), (95, True), (94, False), (0, False)])
def test_products_that_run_in_float32_fail_their_check(done: int, passed: bool) -> None:
    images, logits = np.zeros((3, 1, 2, 3), np.float32), np.eye(3, dtype=np.float32)
    evidence = Evidence([(images, logits)], None, images, logits, Int8Coverage(7, 100, done))
    found = {
        check.name: check
        for check in run_checks(
            "int8", lambda images: np.resize(logits, (len(images), 3)), evidence, max_batch=3
        ).checks
    }
    assert found["not_int8"].passed is passed
    assert found["not_int8"].value == 100 - done
    assert found["not_int8"].samples == 7
    assert found["accuracy_drop"].passed is None


def test_a_graph_whose_scales_are_wrong_gives_no_bundle(
    run: Run,
    checkpoint: Path,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write = lowering.write

    def spoilt(*arguments: Any) -> Any:
        built = write(*arguments)
        path = arguments[3] / MODEL
        model = onnx.load(path)
        for tensor in model.graph.initializer:
            if tensor.name.startswith("branches.1/layers.1") and tensor.name.endswith("weight/scale"):
                tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(3), tensor.name))
        onnx.save(model, path)
        return built

    monkeypatch.setattr(lowering, "write", spoilt)
    output = tmp_path / "out" / "a.bundle"
    done = run("build", checkpoint, "-o", output, "--precision", "int8", "--calib", photos)
    assert done.code == 1
    assert "error: check failed: parity is" in done.err
    assert "the most error at the sum over branches comes from branches." in done.err
    assert not output.parent.exists()


def test_unreadable_images_are_named_and_the_rest_is_used_and_few_are_told(
    run: Run,
    checkpoint: Path,
    tmp_path: Path,
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "broken.png").write_bytes(b"junk")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, SPEC.image_size, np.uint8)).save(folder / "a.png")
    done = run(
        "build", checkpoint, "-o", tmp_path / "a.bundle", "--precision", "int8", "--calib", folder, "--json",
        *(f"--limit={name}={value}" for name, value in LOOSE.items()),
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "warning: skipped broken.png: not an image" in done.err
    assert "warning: assumed calib = 1 image: so few images may not represent those in use; 64 are enough" in done.err
    assert done.json["lowering"]["calibration"] == f"1 image from {folder.name}"
    assert len(done.json["unreadable"]) == 1


def test_without_calib_the_images_of_data_are_taken_aloud(
    run: Run,
    checkpoint: Path,
    tmp_path: Path,
) -> None:
    numbers = np.random.default_rng(0)
    images, labels = numbers.integers(0, 256, (70, *SPEC.image_size), np.uint8), numbers.integers(0, 5, 70)
    np.savez(tmp_path / "data.npz", images=images, labels=labels)
    done = run(
        "build", checkpoint, "-o", tmp_path / "a.bundle", "--precision", "int8", "--data", tmp_path / "data.npz",
        "--limit=accuracy_drop=100", *(f"--limit={name}={value}" for name, value in LOOSE.items()),
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "assumed calib = the images of --data" in done.err
    assert "images that also measure accuracy" in done.err


def bad(kind: str, folder: Path) -> tuple[Path | None, str]:
    """--calib, and the messages about it."""
    folder = folder / "calib"
    numbers = np.random.default_rng(0)
    ready = ((numbers.integers(0, 256, (20, 1, *SPEC.image_size)) / 255 - 0.5) / 0.5).astype(np.float32)
    if kind == "none":
        return None, "int8 needs images to calibrate on.*64 images"
    if kind == "nothing there":
        return folder, "there is no such file or folder"
    if kind in ("an empty folder", "nothing readable"):
        folder.mkdir()
        if kind == "nothing readable":
            (folder / "a.png").write_bytes(b"junk")
        return folder, "no image|none of 1 image can be used"
    path = folder.with_suffix(".npy")
    arrays: dict[str, tuple[Any, str]] = {
        "another shape": (
            ready[..., 1:],
            r"the images do not fit the model.*float32 \[N, 1, 8, 12\].*\[20, 1, 8, 11\]",
        ),
        "channels last": (ready.transpose(0, 2, 3, 1), "the images do not fit the model"),
        "double": (ready.astype(np.float64), "the images do not fit the model"),
        "no image": (ready[:0], "at least one of"),
        "pixels as float32": ((ready + 1) * 127.5, "image 0 is not preprocessed .*about -1 to 1"),
        "an outlier of 1e4": (with_one(ready, 1e4), r"image 7 is not preprocessed.*got -?[\d.]+ to 1e\+04"),
        "NaN": (with_one(ready, np.nan), "image 7 has values that are not finite"),
    }
    array, message = arrays[kind]
    np.save(path, array.astype(np.float32) if kind == "pixels as float32" else array)
    return path, message


def with_one(images: NDArray[np.float32], value: float) -> NDArray[np.float32]:
    changed = images.copy()
    changed[7, 0, 3, 4] = value
    return changed


KINDS = (
    "none", "nothing there", "an empty folder", "nothing readable", "another shape", "channels last", "double",
    "no image", "pixels as float32", "an outlier of 1e4", "NaN",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_images_that_cannot_calibrate_are_one_clear_error(kind: str, checkpoint: Path, tmp_path: Path) -> None:
    calib, message = bad(kind, tmp_path)
    with pytest.raises(InputError, match=message) as caught:
        paraexport.build(checkpoint, tmp_path / "a.bundle", precision="int8", calib=calib)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "a.bundle").exists()
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "fp32", "keep": ("branches.1",)}, "--keep: this option is only for int8.*--precision fp32"),
        ({"precision": "fp32", "calibrator": "mse", "equalise": False}, "--calibrator, --no-equalise: this option is"),
        ({"precision": "int8", "calibrator": "best"}, "unknown calibrator .*minmax"),
        ({"precision": "int8", "max_drop": 1.0, "limits": {"accuracy_drop": 2.0}}, "contradict each other"),
        ({"precision": "int8", "limits": {"not_int9": 2.0}}, "no such check .*not_int8"),
    ],
)
def test_impossible_options(
    options: dict[str, Any], message: str, checkpoint: Path, photos: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        paraexport.build(checkpoint, tmp_path / "a.bundle", calib=photos, **options)


def test_an_unknown_part_is_named_and_leaves_nothing(checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--keep: no such part: branches\.9 .*branches\.0/layers\.0"):
        paraexport.build(checkpoint, tmp_path / "a.bundle", precision="int8", calib=photos, keep=["branches.9"])
    assert not [*tmp_path.iterdir()]


def test_a_drop_that_cannot_be_met_is_exit_1_with_the_best_that_was_reached(
    run: Run,
    checkpoint: Path,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """PyTorch's answers are inverted, so every choice of parts loses everything."""
    plan_of = candidates.int8

    def turned(traced: Path, options: Any, possible: Any, work: Path, images: candidates.Images, **more: Any) -> Any:
        wrong = candidates.Images(images.calibration, images.checked, -images.logits)
        return plan_of(traced, options, possible, work, wrong, **more)

    monkeypatch.setattr(candidates, "int8", turned)
    arguments = ("build", checkpoint, "-o", tmp_path / "a.bundle", "--precision", "int8", "--calib", photos)
    done = run(*arguments, "--max-drop", 0.5)
    assert done.code == 1
    assert "error: int8 cannot stay within --max-drop (expected at most 0.5 % of images with another answer" in done.err
    assert "the best of all tried" in done.err
    assert not [*tmp_path.iterdir()]


SAME = np.random.default_rng(3).integers(0, 256, (1, *SPEC.image_size), np.uint8)


@pytest.mark.parametrize(
    ("pixels", "got"),
    [
        (np.zeros((64, *SPEC.image_size), np.uint8), "all 64 images are equal"),
        (np.repeat(SAME, 64, 0), "all 64 images are equal"),
        (np.full((1, *SPEC.image_size), 9, np.uint8), "the image has one colour"),
        (np.arange(64, dtype=np.uint8)[:, None, None].repeat(8, 1).repeat(12, 2), "each of the 64 images has one"),
    ],
)
def test_images_that_show_no_range_cannot_calibrate(
    run: Run, checkpoint: Path, tmp_path: Path, pixels: NDArray[np.uint8], got: str
) -> None:
    np.save(tmp_path / "poor.npy", pixels)
    arguments = ("build", checkpoint, "-o", tmp_path / "a.bundle", "--calib", tmp_path / "poor.npy")
    done = run(*arguments, "--precision", "int8")
    assert done.code == 2
    assert "poor.npy: int8 cannot be calibrated on these images (expected different images, like those" in done.err
    assert f"got {got}" in done.err
    assert done.err.count("error") == 1


def test_a_quarter_of_the_calibration_images_is_held_out_and_few_different_ones_are_reported(
    checkpoint: Path, tmp_path: Path
) -> None:
    numbers = np.random.default_rng(0)
    images = np.resize(numbers.integers(0, 256, (10, *SPEC.image_size), np.uint8), (40, *SPEC.image_size))
    images[31] = numbers.integers(0, 256, SPEC.image_size, np.uint8)  # held out, and no other is equal to it
    np.save(tmp_path / "some.npy", images)
    built = paraexport.build(
        checkpoint, tmp_path / "a.bundle", precision="int8", calib=tmp_path / "some.npy", limits=LOOSE
    )
    manifest = built.manifest
    assert manifest.evidence == "40 images from some.npy, 1 not used for calibration"
    assert manifest.lowering is not None
    assert manifest.lowering.calibration == "30 of 40 images from some.npy"
    assert ("calib", "10 different of 30") in [(one.field, one.value) for one in manifest.assumptions]
    assert "only 11 of 40 images are different" in report.read(Folder(built.path)).warnings[0]


def test_checks_on_calibration_images_alone_say_so(built: Bundle) -> None:
    assert built.manifest.evidence.endswith(", all also used for calibration")
    assert any(
        "only on images that int8 was calibrated on; give other" in line
        for line in report.read(Folder(built.path)).warnings
    )
    page = (built.path / "report.html").read_text(encoding="utf-8")
    assert "all also used for calibration" in page
    assert "ran only on images that int8 was calibrated on; give other images" in page


def test_everything_kept_is_a_model_in_float32_and_nothing_is_called_int8(
    run: Run,
    checkpoint: Path,
    photos: Path,
    tmp_path: Path,
) -> None:
    keep = [option for index in range(3) for option in ("--keep", f"branches.{index}")]
    done = run("build", checkpoint, "-o", tmp_path / "a.bundle", "--precision", "int8", "--calib", photos, *keep)
    assert done.code == 0, done.err
    assert "0.0 % of the multiply-adds in products with weights run in lower precision" in done.out
    assert any(line.split()[:3] == ["not_int8", "not", "run"] for line in done.out.splitlines())


NESTED = """
from pathlib import Path
import torch
from paraexport.checkpoint.load import load_checkpoint

class Nested(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.encoder = torch.nn.Module()
        self.encoder.branches = model.branches
        self.embedding, self.norm, self.head = model.embedding, model.norm, model.head

    def forward(self, images):
        tokens = self.embedding(images)
        return self.head(self.norm(sum(branch(tokens) for branch in self.encoder.branches)[:, 0]))

def make(path):
    return Nested(load_checkpoint(Path(path)).module)

def linear(path):
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(96, 20), torch.nn.ReLU(), torch.nn.Linear(20, 5))
"""
SIZE = {"image_size": "8x12", "channels": "1"}


@pytest.mark.parametrize("layout", ["folded", "stacked"])
def test_branches_inside_another_module(layout: str, checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(NESTED)
    built = paraexport.build(
        checkpoint, tmp_path / "a.bundle", precision="int8", calib=photos, limits=LOOSE, spec=SIZE, layout=layout,
        module=f"{tmp_path / 'own.py'}:make", keep=["branches.1"],
    )  # fmt: skip
    found = built.manifest.lowering
    assert found is not None
    assert found.additivity is not None
    assert found.additivity <= 1e-3
    assert all(one.error > 0 for one in found.errors)
    assert not [name for name in found.products if "branches.1/" in name]
    assert found.products


def test_a_module_without_branches(checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(NESTED)
    built = paraexport.build(
        checkpoint, tmp_path / "a.bundle", precision="int8", calib=photos, limits=LOOSE, spec=SIZE,
        module=f"{tmp_path / 'own.py'}:linear",
    )  # fmt: skip
    assert built.manifest.lowering is not None
    assert len(built.manifest.lowering.products) == 2
    (output,) = onnx.load(built.path / MODEL).graph.output
    assert output.name == built.manifest.outputs[0].name
    assert facts(built)["not_int8"] in (0, None)
