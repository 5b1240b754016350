"""With labelled images, the accuracy of each possible number of heads is shown; none is suggested without."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch

import paraexport
from paraexport.errors import SpecError
from tests.conftest import DIGITS, TEST_IMAGES

NOISY = Path("models/noisy_digits.pt")


def bare(path: Path, folder: Path) -> tuple[Path, int]:
    """The weights alone, and the number of heads that they were trained with."""
    content = torch.load(path, weights_only=True)
    torch.save(content["state_dict"], folder / "bare.pt")
    return folder / "bare.pt", content["spec"]["heads"]


@pytest.mark.parametrize("example", [DIGITS, NOISY], ids=lambda path: path.stem)
def test_the_right_number_of_heads_has_the_best_accuracy(example: Path, tmp_path: Path) -> None:
    checkpoint, heads = bare(example, tmp_path)
    with pytest.raises(SpecError, match=r"top-1 on test with the best values: ") as caught:
        paraexport.build(checkpoint, tmp_path / "a.bundle", spec={"residual": "normalized"}, data=TEST_IMAGES)
    trials = re.findall(r"heads=(\d+): ([\d.]+) % \((\d+) of 359\)", str(caught.value))
    assert len(trials) == 6
    assert [int(correct) for _, _, correct in trials] == sorted(
        (int(correct) for _, _, correct in trials), reverse=True
    )
    assert int(trials[0][0]) == heads
    assert not (tmp_path / "a.bundle").exists()


@pytest.mark.parametrize("example", [DIGITS, NOISY], ids=lambda path: path.stem)
def test_the_residual_is_tried_too_where_it_would_be_assumed(example: Path, tmp_path: Path) -> None:
    checkpoint, heads = bare(example, tmp_path)
    with pytest.raises(SpecError, match="does not contain heads and residual") as caught:
        paraexport.build(checkpoint, tmp_path / "a.bundle", data=TEST_IMAGES)
    assert f"with the best values: heads={heads} residual=normalized: " in str(caught.value)


def test_labels_that_do_not_fit_make_no_value_look_right(tmp_path: Path) -> None:
    checkpoint, _ = bare(DIGITS, tmp_path)
    names = ["eight", "five", "four", "nine", "one", "seven", "six", "three", "two", "zero"]
    for name in names:
        right = str(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"].index(name))
        shutil.copytree(TEST_IMAGES / right, tmp_path / "named" / name)
    with pytest.raises(SpecError, match="none is better than guessing, so check the labels"):
        paraexport.build(checkpoint, tmp_path / "a.bundle", spec={"residual": "normalized"}, data=tmp_path / "named")


def test_without_labelled_images_the_values_are_listed(tmp_path: Path) -> None:
    checkpoint, _ = bare(DIGITS, tmp_path)
    with pytest.raises(SpecError, match=r"so it is one of 1, 2, 4, 8, 16, 32, 64 ") as caught:
        paraexport.build(checkpoint, tmp_path / "a.bundle")
    assert "--spec heads=N as in training" in str(caught.value)


def test_several_open_fields_are_asked_for_and_nothing_is_tried(tmp_path: Path) -> None:
    checkpoint, _ = bare(DIGITS, tmp_path)
    content = torch.load(checkpoint, weights_only=True)
    content["embedding.position"] = torch.zeros(1, 1 + 7, 64)
    torch.save(content, checkpoint)
    with pytest.raises(SpecError, match=r"image_size: .*heads: "):
        paraexport.build(checkpoint, tmp_path / "a.bundle", data=TEST_IMAGES)
