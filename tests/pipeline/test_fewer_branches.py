"""Several numbers of branches in one bundle: the bits of separate builds, one file of weights, every check."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

import paraexport
from paraexport.bundle import Bundle
from paraexport.errors import InputError, SpecError
from paraexport.pipeline.validate import validate
from tests.bundle.forging import copied, forge
from tests.conftest import DIGITS, TEST_IMAGES


@pytest.fixture(scope="module")
def of_digits(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The example with 1, 2 and all 4 branches."""
    output = tmp_path_factory.mktemp("digits") / "d.bundle"
    return paraexport.build(DIGITS, output, branches_at_load=(2, 1), layout="stacked", data=TEST_IMAGES)


@pytest.fixture
def images() -> Any:
    return np.random.default_rng(0).standard_normal((5, 1, 32, 32)).astype(np.float32)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random images for the small checkpoint."""
    path = tmp_path_factory.mktemp("photos") / "photos.npy"
    np.save(path, np.random.default_rng(1).integers(0, 256, (64, 8, 12, 1), np.uint8))
    return path


@pytest.mark.parametrize(
    ("target", "precision", "layout"),
    [
        ("onnxruntime", "fp32", "branches"),
        ("onnxruntime", "int8", "stacked"),
        ("openvino", "fp32", "folded"),
        ("openvino", "bf16", "stacked"),
    ],
)
def test_each_number_of_branches_gives_the_bits_of_a_build_of_its_own(  # noqa: PLR0917
    target: str, precision: str, layout: str, small: Path, photos: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"target": target, "precision": precision, "layout": layout, "calib": photos}
    options["limits"] = {"parity": 1.0, "batches": 1.0, "disagreement": 100.0}  # int8 of random weights is far off
    several = paraexport.build(small, tmp_path / "several.bundle", branches_at_load=(2,), **options)
    alone = paraexport.build(small, tmp_path / "alone.bundle", branches=2, **options)
    images = np.random.default_rng(0).standard_normal((5, 1, 8, 12)).astype(np.float32)
    engine = paraexport.load(several.path, branches=2)
    assert engine.branches == 2
    assert np.array_equal(engine(images), paraexport.load(alone.path)(images))
    whole = paraexport.load(several.path)
    assert np.array_equal(whole(images), paraexport.load(several.path, branches=np.int64(3))(images))  # type: ignore[arg-type]
    assert not np.array_equal(whole(images), engine(images))
    (model,) = several.manifest.fewer_branches
    assert {check.name for check in model.checks} == {check.name for check in alone.manifest.checks}
    assert all(check.passed is not False for check in model.checks)


def test_the_whole_model_has_the_bits_of_a_build_without_others(of_digits: Bundle, tmp_path: Path) -> None:
    alone = paraexport.build(DIGITS, tmp_path / "alone.bundle", layout="stacked")
    images = np.random.default_rng(0).standard_normal((5, 1, 32, 32)).astype(np.float32)
    assert np.array_equal(paraexport.load(of_digits.path)(images), paraexport.load(alone.path)(images))


def test_the_models_share_one_file_of_weights(of_digits: Bundle) -> None:
    """Beyond the graphs, only the first layer of a single branch differs, which shares no norm with others."""
    size = {name: entry.size_bytes for name, entry in of_digits.manifest.files.items()}
    parameters = sum(tensor.nbytes for tensor in torch.load(DIGITS, weights_only=True)["state_dict"].values())
    assert parameters * 0.95 < size["model.onnx.data"] < parameters * 1.05
    assert max(size[f"model.first{count}.onnx"] for count in (1, 2)) < 20_000


def test_the_report_has_every_number_with_its_size(of_digits: Bundle) -> None:
    from paraexport.bundle import report

    branches = report.read(of_digits.files).branches
    assert branches is not None
    assert [first.latency_ms is not None for first in branches.first] == [True, True, False, True]
    sizes = [first.model_bytes for first in branches.first if first.model_bytes is not None]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1] / 3
    assert branches.accuracy == pytest.approx(356 / 359)
    assert sum(branch.multiply_adds for branch in branches.branches) > 6_000_000


def test_validate_checks_every_number(of_digits: Bundle, tmp_path: Path) -> None:
    names = [check.name for check in validate(of_digits.path)]
    assert {"parity", "first1_parity", "first2_parity", "first2_batches"} <= {*names}
    checks = validate(of_digits.path, DIGITS, data=TEST_IMAGES)
    assert {check.samples for check in checks if check.name.endswith("parity")} == {359}
    broken = copied(of_digits.path, tmp_path / "broken.bundle")
    tensors = load_file(broken / "golden.safetensors")
    tensors["first_branches.1"] = tensors["first_branches.1"] + 1
    save_file(tensors, broken / "golden.safetensors")
    forge(broken, lambda _: None)
    with pytest.raises(paraexport.errors.CheckFailed, match="first1_parity") as failed:
        validate(broken)
    assert "only models with fewer branches differ" in str(failed.value)
    assert "images are prepared differently" not in str(failed.value)


def test_a_moved_bundle_still_runs_every_number(of_digits: Bundle, images: Any, tmp_path: Path) -> None:
    moved = shutil.copytree(of_digits.path, tmp_path / "moved.bundle")
    assert paraexport.load(moved, branches=1)(images).shape == (5, 10)


@pytest.mark.parametrize("branches", [0, 3, 5, -1, True, "2", 1.0])
def test_a_number_that_the_bundle_does_not_hold_is_refused(of_digits: Bundle, branches: Any) -> None:
    with pytest.raises(InputError, match=r"no model with this number of branches \(expected one of 1, 2, 4, got"):
        paraexport.load(of_digits.path, branches=branches)


def test_a_bundle_with_one_number_says_how_to_get_more(small_bundle: Bundle) -> None:
    with pytest.raises(InputError, match=r"expected all \d branches, got 1\); build it with --branches-at-load"):
        paraexport.load(small_bundle.path, branches=1)
    with pytest.raises(InputError, match=r"expected all \d branches, got 9\); leave the number out"):
        paraexport.load(small_bundle.path, branches=9)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"branches_at_load": (1, 9)}, SpecError, r"--branches-at-load: the model has only \d branches"),
        ({"branches_at_load": (1, 1)}, InputError, "--branches-at-load: a number is given twice"),
        ({"branches_at_load": 2}, InputError, "invalid numbers of branches"),
        ({"branches_at_load": "some"}, InputError, "invalid numbers of branches"),
        ({"branches_at_load": "all", "target": "tensorrt-rtx"}, InputError, "an engine holds its own weights"),
        ({"branches": (0, 0)}, InputError, "a branch is chosen twice"),
        ({"branches": (0, 7)}, SpecError, "no branch 7"),
        ({"branches": [1], "branches_at_load": (2,)}, SpecError, "the model has only 1 branch "),
    ],
)
def test_impossible_choices_are_refused(options: Any, error: Any, words: str, small: Path, tmp_path: Path) -> None:
    with pytest.raises(error, match=words):
        paraexport.build(small, tmp_path / "a.bundle", **options)
    assert not (tmp_path / "a.bundle").exists()


def test_a_traced_module_has_no_branches_to_leave_out(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "import torch\ndef make(path):\n    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 6))\n"
    )
    (tmp_path / "net.pt").write_bytes(DIGITS.read_bytes())
    with pytest.raises(InputError, match="--branches-at-load: the module was not recognised"):
        paraexport.build(
            tmp_path / "net.pt", tmp_path / "a.bundle", module=f"{tmp_path / 'net.py'}:make", branches_at_load="all",
            spec={"image_size": "4x4", "channels": 3},
        )  # fmt: skip


@pytest.mark.parametrize("numbers", [(2, 0), (1,)])
def test_chosen_branches_are_summed_in_the_order_given(numbers: tuple[int, ...], small: Path, tmp_path: Path) -> None:
    built = paraexport.build(small, tmp_path / "some.bundle", branches=numbers)
    content = torch.load(small, weights_only=True)
    model = paraexport.ParaFormer(paraexport.Spec(**content["spec"])).eval()
    model.load_state_dict(content["state_dict"])
    images = torch.randn(3, 1, 8, 12)
    with torch.no_grad():
        outputs = model.branch_outputs(images)
        expected = model.classify(sum((outputs[number] for number in numbers[1:]), outputs[numbers[0]])).numpy()
    assert np.abs(paraexport.load(built.path)(images.numpy()) - expected).max() <= 1e-5 * np.abs(expected).max()
    assert built.manifest.source.branches == numbers
    assert all(check.passed is not False for check in validate(built.path, small))
