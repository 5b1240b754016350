"""Builds from end to end: the same answers as PyTorch, or no bundle and a reason."""

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import safetensors.torch
import torch
from PIL import Image

import paraexport
from paraexport import rewrite
from paraexport.bundle import Bundle, read_bundle
from paraexport.checkpoint.native import save_checkpoint
from paraexport.errors import BundleError, CheckFailed, CheckpointError, InputError, OutputError, TraceError
from paraexport.findings.checks import Accuracy
from paraexport.graph.refusal import Applied
from paraexport.model.spec import Preprocessing
from paraexport.pipeline import cache
from paraexport.pipeline.options import Options
from paraexport.pipeline.validate import run, validate
from tests.bundle.forging import copied, forge
from tests.conftest import DIGITS, LABELS, TEST_IMAGES
from tests.trace.test_trace import random_model, small_spec

SIZE = {"image_size": "8x12", "channels": "1"}


def listing(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_example_answers_as_pytorch_does_image_by_image(digits: Bundle) -> None:
    content = torch.load(DIGITS, weights_only=True)
    model = paraexport.ParaFormer(paraexport.Spec(**content["spec"]))
    model.load_state_dict(content["state_dict"])
    files = sorted(TEST_IMAGES.glob("*/*.png"))
    pixels = np.stack([np.asarray(Image.open(file), np.float32) for file in files])
    images = ((pixels / 255 - 0.5) / 0.5)[:, None].astype(np.float32)
    with torch.no_grad():
        expected = model.eval()(torch.from_numpy(images)).numpy()
    got = paraexport.load(digits.path)(images)
    assert np.abs(got - expected).max() <= 1e-5 * np.abs(expected).max()
    assert (got.argmax(1) == expected.argmax(1)).all()
    right = np.array(
        [file.parent.name == content["labels"][answer] for file, answer in zip(files, got.argmax(1), strict=True)]
    )
    assert right.mean() >= 0.985
    checks = {check.name: check for check in digits.manifest.checks}
    assert all(check.passed for check in checks.values())
    assert checks["accuracy_drop"].samples == len(files) == 359


def test_the_report_of_the_example_tells_both_accuracies(digits: Bundle) -> None:
    page = (digits.path / "report.html").read_text(encoding="utf-8")
    assert page.count('<p class="value">99.16 %</p>') == page.count("PyTorch 99.16 %") == 1
    assert "356 of 359 images" in page
    assert "made-up" not in page


def test_a_build_without_images_says_that_they_were_made_up(small_bundle: Bundle) -> None:
    assert "made-up" in small_bundle.manifest.evidence
    assert "made-up" in (small_bundle.path / "report.html").read_text(encoding="utf-8")
    verdicts = {check.name: check.passed for check in small_bundle.manifest.checks}
    assert verdicts == {"parity": True, "batches": True, "disagreement": True, "accuracy_drop": None}


def test_everybody_who_may_read_the_folder_may_read_the_files(small_bundle: Bundle) -> None:
    for path in (small_bundle.path, *small_bundle.path.iterdir()):
        assert path.stat().st_mode & 0o044 == 0o044


def test_unchanged_inputs_reuse_the_bundle_and_force_does_not(
    small: Path, small_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = tmp_path / "again.bundle"
    first = paraexport.build(small, copied, max_batch=5)
    assert hash_of(first, "model.onnx") == hash_of(small_bundle, "model.onnx"), "the same bytes each time"
    stages: list[str] = []
    assert paraexport.build(small, copied, max_batch=5, progress=stages.append).manifest == first.manifest
    assert stages == ["unchanged"]
    forced = paraexport.build(small, copied, max_batch=5, force=True, progress=stages.append)
    assert "trace" in stages
    assert hash_of(forced, "model.onnx") == hash_of(first, "model.onnx")
    assert listing(tmp_path) == {"again.bundle"}


def hash_of(bundle: Bundle, name: str) -> str:
    return hashlib.sha256((bundle.path / name).read_bytes()).hexdigest()


def test_other_inputs_do_not_replace_a_bundle_in_silence(small: Path, small_bundle: Bundle) -> None:
    before = hash_of(small_bundle, "manifest.json")
    with pytest.raises(OutputError, match="--force"):
        paraexport.build(small, small_bundle.path, max_batch=6)
    assert hash_of(small_bundle, "manifest.json") == before


def test_a_damaged_bundle_is_not_reused(small: Path, tmp_path: Path) -> None:
    made = paraexport.build(small, tmp_path / "a.bundle")
    (made.path / "golden.safetensors").write_bytes(b"")
    with pytest.raises(OutputError, match="--force"):
        paraexport.build(small, made.path)
    paraexport.build(small, made.path, force=True)
    assert read_bundle(made.path).manifest.checks


WRONG = """
import torch, paraexport
from paraexport.checkpoint.load import load_checkpoint
from pathlib import Path

class Wrong(torch.nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, tokens):
        tokens = self.inner(tokens)
        return tokens * 1.01 if torch.compiler.is_exporting() else tokens

def make(path):
    model = load_checkpoint(Path(path)).module
    model.branches[1].layers[0].feed_forward.fc2 = Wrong(model.branches[1].layers[0].feed_forward.fc2)
    return model
"""


def test_a_graph_that_differs_leaves_nothing_and_names_branch_and_layer(small: Path, tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text(WRONG)
    with pytest.raises(CheckFailed, match=r"parity is 0\.\d+.*at most 1e-05.*branches\.1/layers\.0/feed_forward/fc2"):
        paraexport.build(small, tmp_path / "a.bundle", module=f"{tmp_path / 'wrong.py'}:make")
    assert listing(tmp_path) <= {"wrong.py", "__pycache__"}


def test_a_wrong_rewrite_is_told_from_a_wrong_trace(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def halve_a_bias(graph: ir.Graph) -> Applied:
        value = graph.initializers["branches.1/layers.0/feed_forward/fc2/bias"]
        value.const_value = ir.tensor(value.const_value.numpy() / 2, name=value.name)  # type: ignore[union-attr]
        return Applied("halve_a_bias", 1)

    monkeypatch.setattr(rewrite, "LAYOUTS", {"folded": (halve_a_bias,)})
    with pytest.raises(
        CheckFailed, match=r"first difference is at branches.1/layers.0/feed_forward.*--layout branches"
    ):
        paraexport.build(small, tmp_path / "a.bundle", layout="folded")
    assert listing(tmp_path) == set()


def test_a_failed_build_keeps_the_bundle_that_was_there(small: Path, small_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text(WRONG)
    before = hash_of(small_bundle, "manifest.json")
    with pytest.raises(CheckFailed):
        paraexport.build(small, small_bundle.path, module=f"{tmp_path / 'wrong.py'}:make", force=True)
    assert hash_of(small_bundle, "manifest.json") == before
    assert listing(small_bundle.path.parent) == {"small.bundle"}


def test_a_limit_can_be_moved_and_the_manifest_says_so(small: Path, tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text(WRONG)
    limits = {"parity": 1.0, "batches": 1.0, "disagreement": 99.0}
    made = paraexport.build(small, tmp_path / "a.bundle", module=f"{tmp_path / 'wrong.py'}:make", limits=limits)
    assert [check.reason.startswith("moved") for check in made.manifest.checks] == [True, True, True, False]


def test_the_first_branches_alone_are_the_model_of_these(small: Path, tmp_path: Path) -> None:
    made = paraexport.build(small, tmp_path / "two.bundle", branches=2)
    content = torch.load(small, weights_only=True)
    model = paraexport.ParaFormer(paraexport.Spec(**content["spec"])).eval()
    model.load_state_dict(content["state_dict"])
    images = torch.randn(3, 1, 8, 12)
    with torch.no_grad():
        expected = model.prefix_logits(images)[1].numpy()
    assert made.manifest.spec is not None
    assert made.manifest.spec.branches == 2
    assert np.abs(paraexport.load(made.path)(images.numpy()) - expected).max() <= 1e-5 * np.abs(expected).max()


def test_a_foreign_module_is_traced_as_it_is(small: Path, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "import torch\n"
        "def make(path):\n"
        "    torch.manual_seed(0)\n"
        "    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(4 * 36, 6))\n"
    )
    function, options = f"{tmp_path / 'net.py'}:make", {"image_size": "8", "channels": "3"}
    made = paraexport.build(small, tmp_path / "a.bundle", module=function, spec=options)
    assert made.manifest.spec is None
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(4 * 36, 6))
    images = torch.randn(5, 3, 8, 8)
    with torch.no_grad():
        expected = net(images).numpy()
    assert np.abs(paraexport.load(made.path)(images.numpy()) - expected).max() <= 1e-5


DECIDES = """
import torch
from pathlib import Path
from paraexport.checkpoint.load import load_checkpoint

class Decides(torch.nn.Module):
    def __init__(self, inner, limit):
        super().__init__()
        self.inner, self.limit = inner, limit

    def forward(self, images):
        logits = self.inner(images)
        return logits * 2 if float(images.mean()) > self.limit else logits

def often(path):
    return Decides(load_checkpoint(Path(path)).module, 0.0)

def rarely(path):
    return Decides(load_checkpoint(Path(path)).module, 2.0)
"""


def test_a_module_that_decides_on_values_is_never_taken_for_one_that_does_not(small: Path, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(DECIDES)
    with pytest.raises(TraceError, match="control flow that depends on values"):
        paraexport.build(small, tmp_path / "a.bundle", module=f"{tmp_path / 'own.py'}:often", spec=SIZE)
    bright = np.full((4, 1, 8, 12), 3, np.float32) + np.random.default_rng(0).normal(size=(4, 1, 8, 12))
    np.save(tmp_path / "bright.npy", bright.astype(np.float32))
    with pytest.raises(CheckFailed, match=r"parity is 0\.5.*decides on values"):
        paraexport.build(
            small, tmp_path / "a.bundle", module=f"{tmp_path / 'own.py'}:rarely", spec=SIZE,
            calib=tmp_path / "bright.npy",
        )  # fmt: skip
    assert not (tmp_path / "a.bundle").exists()


def test_a_module_that_ends_the_program_is_an_error(small: Path, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("def make():\n    raise SystemExit(0)\n")
    with pytest.raises(InputError, match="it raised SystemExit"):
        paraexport.build(small, tmp_path / "a.bundle", module=f"{tmp_path / 'own.py'}:make")


def test_a_resize_that_leaves_too_little_is_refused(small: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="resize=6x12 is smaller than the crop of 8x12"):
        paraexport.build(small, tmp_path / "a.bundle", spec={"resize": "6x12"})


def test_validate_replays_the_golden_images_and_compares_with_the_checkpoint(small: Path, small_bundle: Bundle) -> None:
    for checkpoint in (None, small):
        assert [check.passed for check in validate(small_bundle.path, checkpoint)] == [True, True, True, True, None]


def test_validate_fails_on_another_checkpoint(small_bundle: Bundle, tmp_path: Path) -> None:
    spec = small_spec()
    images = Preprocessing(image_size=spec.image_size, channels=spec.channels, resize=spec.image_size)
    save_checkpoint(tmp_path / "other.pt", random_model(spec, seed=5), images, LABELS)
    with pytest.raises(CheckFailed, match=r"parity.*built from another file"):
        validate(small_bundle.path, tmp_path / "other.pt")
    with pytest.raises(InputError, match="not the checkpoint that the bundle was built from, and it does not fit"):
        validate(small_bundle.path, DIGITS)


def test_validate_measures_accuracy_without_the_checkpoint(digits: Bundle) -> None:
    validated = run(digits.path, None, {"data": TEST_IMAGES})
    images = [*TEST_IMAGES.rglob("*.png")]
    labels = [prediction.label for prediction in paraexport.load(digits.path).predict(images)]
    right = sum(label == image.parent.name for label, image in zip(labels, images, strict=True))
    assert validated.accuracy == Accuracy(359, None, right)
    (drop,) = (check for check in validated if check.name == "accuracy_drop")
    assert (drop.passed, "without the checkpoint" in drop.reason) == (None, True)
    with pytest.raises(BundleError):
        validate(TEST_IMAGES)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "tensorflow"}, "--target: unknown target .*onnxruntime"),
        ({"precision": "fp4"}, "--precision: unknown precision .*fp32"),
        ({"layout": "round"}, "--layout: unknown layout .*branches"),
        ({"max_batch": 0}, "--max-batch: invalid value .*at least 1"),
        ({"branches": 0}, "--branches: invalid choice of branches"),
        ({"branches": 9}, "9 branches"),
        ({"limits": {"partiy": 1.0}}, "no such check .*parity.*partiy"),
        ({"limits": {"parity": float("nan")}}, "limit of parity is not valid"),
        ({"max_drop": 0.5}, "give --data"),
        ({"data": "nowhere"}, "--data nowhere: there is no such file"),
        ({"spec": {"hedas": "3"}}, "did you mean heads"),
        ({"spec": {"heads": "5"}}, "heads"),
        ({"module": "nowhere.py:make"}, "no such file"),
        ({"module": "nowhere"}, "FILE.py:FUNCTION"),
    ],
)
def test_an_impossible_option_is_one_clear_error_and_leaves_nothing(
    options: dict[str, object], message: str, small: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        paraexport.build(small, tmp_path / "a.bundle", **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert not listing(tmp_path)


def test_no_checkpoint_is_an_error(tmp_path: Path) -> None:
    messages = {tmp_path: "the folder contains no checkpoint", tmp_path / "nowhere.pt": "expected a file"}
    for path, message in messages.items():
        with pytest.raises(CheckpointError, match=message):
            paraexport.build(path, tmp_path / "a.bundle")
    assert not listing(tmp_path)


def test_the_copy_that_was_chosen_of_shards_is_in_the_manifest_and_validated_again(small: Path, tmp_path: Path) -> None:
    content = torch.load(small, weights_only=True)
    torch.manual_seed(1)
    both = {
        "model": content["state_dict"],
        "teacher": {name: value + 0.1 * torch.randn_like(value) for name, value in content["state_dict"].items()},
    }
    (folder := tmp_path / "vit").mkdir()
    listed: dict[str, str] = {}
    for copy, state in both.items():
        safetensors.torch.save_file(
            {f"{copy}.{name}": value for name, value in state.items()}, folder / f"{copy}.safetensors"
        )
        listed |= {f"{copy}.{name}": f"{copy}.safetensors" for name in state}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": listed}))
    spec = paraexport.Spec(**content["spec"])
    said = {name: str(getattr(spec, name)) for name in ("heads", "residual", "activation", "pool", "norm", "eps")}
    said["image_size"] = "8x12"
    stages: list[str] = []
    for _ in range(2):
        built = paraexport.build(
            folder, tmp_path / "a.bundle", weights="teacher", spec=said, max_batch=5, progress=stages.append
        )
    assert stages[-1] == "unchanged"
    assert built.manifest.source.weights == "teacher"
    assert built.manifest.source.name == "model.safetensors.index.json"
    model = paraexport.ParaFormer(spec)
    model.load_state_dict(both["teacher"])
    images = torch.randn(3, spec.channels, *spec.image_size)
    with torch.no_grad():
        expected = model.eval()(images).numpy()
    assert np.abs(paraexport.load(built.path)(images.numpy()) - expected).max() <= 1e-5 * np.abs(expected).max()
    assert all(check.passed is not False for check in validate(built.path, folder))
    with pytest.raises(CheckFailed):
        validate(built.path, folder, weights="model")
    with pytest.raises(OutputError):  # another copy is another bundle, not the one that is there
        paraexport.build(folder, built.path, weights="model", spec=said, max_batch=5)


def test_large_files_of_something_else_are_refused_before_they_are_hashed(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> str:
        raise AssertionError("hashed")

    monkeypatch.setattr(cache, "LARGE_BYTES", 1000)
    monkeypatch.setattr(cache, "build_key", never)
    for name in ("big.pt", "big.npy"):
        (tmp_path / name).write_bytes(bytes(2000))
    with pytest.raises(InputError, match=r"big\.pt"):
        paraexport.build(tmp_path / "big.pt", tmp_path / "a.bundle")
    with pytest.raises(InputError, match=r"big\.npy"):
        paraexport.build(small, tmp_path / "a.bundle", calib=tmp_path / "big.npy")


def test_values_of_spec_may_be_numbers_and_tuples(small: Path, tmp_path: Path) -> None:
    built = paraexport.build(small, tmp_path / "a.bundle", spec={"heads": 2, "mean": (0.25,), "resize": (8, 12)})
    assert built.manifest.source.overrides == {"heads": "2", "mean": "0.25", "resize": "8x12"}
    assert built.manifest.preprocessing.mean == (0.25,)


def test_auto_for_the_target_is_auto_for_the_layout_too() -> None:
    assert Options(target="auto").layout == "auto"
    assert Options(target="auto", layout="stacked").layout == "stacked"
    assert Options().layout == "folded"


def test_labels_and_preprocessing_are_in_the_metadata_of_the_model(digits: Bundle) -> None:
    session = onnxruntime.InferenceSession(digits.path / "model.onnx", providers=["CPUExecutionProvider"])
    kept = {name: json.loads(text) for name, text in session.get_modelmeta().custom_metadata_map.items()}
    manifest = json.loads((digits.path / "manifest.json").read_text(encoding="utf-8"))
    assert kept == {f"paraexport.{name}": manifest[name] for name in ("labels", "preprocessing", "scores")}
    onnx.checker.check_model(digits.path / "model.onnx", full_check=True)


def test_another_preprocessing_than_at_the_build_fails_validation_by_name(digits: Bundle, tmp_path: Path) -> None:
    wrong = copied(digits.path, tmp_path / "wrong.bundle")
    forge(wrong, lambda raw: raw["preprocessing"].update(mean=[0.4]))
    with pytest.raises(CheckFailed, match="images are prepared differently than at the build") as caught:
        validate(wrong)
    failed = [check for check in caught.value.checks if check.passed is False]
    assert [check.name for check in failed] == ["preprocessing"]
    assert failed[0].value == pytest.approx(25.5, rel=1e-3)  # a tenth of 255 levels


def test_another_checkpoint_is_named_before_the_comparison(small_bundle: Bundle, tmp_path: Path) -> None:
    other = tmp_path / "other.pt"
    spec = small_spec()
    images = Preprocessing(image_size=spec.image_size, channels=spec.channels, resize=spec.image_size)
    save_checkpoint(other, random_model(spec, seed=7), images, LABELS)
    lines: list[str] = []
    with pytest.raises(CheckFailed):
        validate(small_bundle.path, other, warn=lines.append)
    assert lines == ["other.pt is not the file that the bundle was built from, small.pt"]
