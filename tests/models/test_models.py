"""The committed checkpoints and images: what the cards say of them holds, measured without the training script."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from calib import make_digits
from paraexport.model.reference import ParaFormer
from paraexport.model.spec import Spec

ROOT = Path(__file__).parents[2]
MODELS, CALIB = ROOT / "models", ROOT / "calib"
NAMES = ("digits", "noisy_digits", "prenorm_digits")
PREPROCESSING = {
    "image_size": (32, 32),
    "channels": 1,
    "resize": (32, 32),
    "interpolation": "bilinear",
    "mean": (0.5,),
    "std": (0.5,),
}


@dataclass(frozen=True)
class Bounds:
    accuracy: tuple[float, float]
    """Of all branches, at least and at most, as fractions."""
    first_branch: float
    size_bytes: int


BOUNDS = {
    "digits": Bounds(accuracy=(0.985, 1.0), first_branch=0.98, size_bytes=1_700_000),
    "noisy_digits": Bounds(accuracy=(0.94, 0.96), first_branch=0.88, size_bytes=3_500_000),
    "prenorm_digits": Bounds(accuracy=(0.97, 1.0), first_branch=0.95, size_bytes=400_000),
}


def checkpoint(name: str) -> dict[str, Any]:
    content = torch.load(MODELS / f"{name}.pt", weights_only=True)
    assert isinstance(content, dict)
    return content


def results(name: str) -> dict[str, Any]:
    content = json.loads((MODELS / f"{name}.json").read_text())
    assert isinstance(content, dict)
    return content


def pixels(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        assert image.mode == "L"
        return np.asarray(image)[..., None]


def evaluation_images(name: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """uint8 [N, 32, 32, 1] and int64 [N]."""
    if name == "noisy_digits":
        with np.load(CALIB / "noisy_digits.npz") as archive:
            return archive["images"], archive["labels"]
    files = sorted((CALIB / "digits" / "test").glob("*/*.png"))
    return np.stack([pixels(file) for file in files]), np.array([int(file.parent.name) for file in files])


@pytest.mark.parametrize("name", NAMES)
def test_checkpoint_holds_plain_content(name: str) -> None:
    content = checkpoint(name)
    assert list(content) == ["spec", "preprocessing", "labels", "state_dict"]
    assert content["preprocessing"] == PREPROCESSING
    assert list(content["labels"]) == list("0123456789")
    spec = Spec(**content["spec"])
    assert (spec.depth, spec.heads, spec.patch_size, spec.channels) == (2, 2, (8, 8), 1)
    assert (spec.pool, spec.norm) == ("cls", "after")
    shape = (spec.branches, spec.dim, spec.head_dim, spec.mlp_dim, spec.residual, spec.qkv_bias)
    assert (
        shape
        == {
            "digits": (4, 64, 32, 256, "normalized", False),
            "noisy_digits": (8, 64, 32, 256, "normalized", False),
            "prenorm_digits": (4, 32, 16, 64, "input", True),
        }[name]
    )
    assert (MODELS / f"{name}.pt").stat().st_size <= BOUNDS[name].size_bytes


@pytest.mark.parametrize("name", NAMES)
def test_accuracy_is_what_the_results_say(name: str) -> None:
    content, measured = checkpoint(name), results(name)
    model = ParaFormer(Spec(**content["spec"])).eval()
    model.load_state_dict(content["state_dict"])
    images, labels = evaluation_images(name)
    inputs = torch.from_numpy(((images.astype(np.float32) / 255 - 0.5) / 0.5).transpose(0, 3, 1, 2))
    with torch.no_grad():
        prefixes = model.prefix_logits(inputs)
        whole = model(inputs)
    correct = [int((logits.argmax(1).numpy() == labels).sum()) for logits in prefixes]
    assert measured["test_images"] == len(labels) == 359
    # a last bit that differs between CPUs may turn one image that lies on the fence
    np.testing.assert_allclose(correct, measured["correct_by_branches"], rtol=0, atol=1)
    torch.testing.assert_close(whole, prefixes[-1])
    low, high = BOUNDS[name].accuracy
    assert low <= correct[-1] / len(labels) <= high
    assert correct[0] / len(labels) >= BOUNDS[name].first_branch


@pytest.mark.parametrize("name", NAMES)
def test_results_and_card_belong_to_the_checkpoint(name: str) -> None:
    measured = results(name)
    assert measured["checkpoint_sha256"] == hashlib.sha256((MODELS / f"{name}.pt").read_bytes()).hexdigest()
    rows = re.findall(
        r"^\| (\d+) \| (\d+) / (\d+) \| ([\d.]+) % \|$", (MODELS / f"{name}.md").read_text(), re.MULTILINE
    )
    total = measured["test_images"]
    expected = [
        (str(k), str(correct), str(total), f"{100 * correct / total:.2f}")
        for k, correct in enumerate(measured["correct_by_branches"], 1)
    ]
    assert rows == expected
    assert len(rows) == checkpoint(name)["spec"]["branches"]


def test_calibration_files_are_what_the_script_makes(tmp_path: Path) -> None:
    make_digits.write(tmp_path)
    made = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    kept = sorted(path.relative_to(CALIB) for suffix in ("png", "npy", "npz") for path in CALIB.rglob(f"*.{suffix}"))
    assert kept == made
    assert len(made) == 359 + 64 + 2
    for path in made:
        if path.suffix == ".png":  # another Pillow may compress the same pixels to other bytes
            np.testing.assert_array_equal(pixels(CALIB / path), pixels(tmp_path / path))
        else:
            assert (CALIB / path).read_bytes() == (tmp_path / path).read_bytes()
    assert sum((CALIB / path).stat().st_size for path in made) < 1_500_000


def test_calibration_arrays() -> None:
    with np.load(CALIB / "noisy_digits.npz") as archive:
        assert sorted(archive.files) == ["images", "labels"]
        assert (archive["images"].dtype, archive["images"].shape) == (np.uint8, (359, 32, 32, 1))
        assert (archive["labels"].dtype, archive["labels"].shape) == (np.int64, (359,))
    noisy = np.load(CALIB / "noisy_digits_calibration.npy")
    assert (noisy.dtype, noisy.shape) == (np.uint8, (64, 32, 32, 1))


def test_no_image_is_both_tested_and_calibrated_or_trained_on() -> None:
    _, labels = make_digits.digits()
    train, test = make_digits.split(labels)
    assert sorted([*train, *test]) == list(range(1797))
    shares = np.bincount(labels[test]) / np.bincount(labels)
    np.testing.assert_allclose(shares, 0.2, atol=0.003)  # half an image in 174, the smallest class
    files = {int(path.stem): path for path in (CALIB / "digits" / "test").glob("*/*.png")}
    assert sorted(files) == list(test)
    assert all(int(path.parent.name) == labels[index] for index, path in files.items())
    calibration = {int(path.stem) for path in (CALIB / "digits" / "calibration").glob("*.png")}
    assert len(calibration) == 64
    assert calibration <= set(train.tolist())
