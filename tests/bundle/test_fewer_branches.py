"""A bundle with models of fewer branches that somebody changed, with digests that fit: refused in one line."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import paraexport
from paraexport.errors import BundleError
from paraexport.pipeline import validate
from tests.bundle.forging import Change, copied, forge
from tests.bundle.test_forged import put

LOWERING: dict[str, object] = {
    "calibration": "", "calibrator": "", "equalised": False, "kept": ["a"], "reason": "", "additivity": 0.5,
    "errors": [{"part": "a", "error": 1.0, "kept": True}], "float32": ["a"], "products": {"a": 1},
    "linear_multiply_adds": 1, "effects": [{"remedy": "a", "error": 1.0}], "rounding": 0.5, "constant": ["a"],
}  # fmt: skip

FEWER_REFUSED: list[tuple[Change, str]] = [
    (
        lambda raw: raw["files"].pop("model.first1.onnx"),
        r"1 branches is model\.first1\.onnx, which is another name or not",
    ),
    (put("fewer_branches.0.lowering", LOWERING), r"1 branches with another precision than fp32"),
    (
        put("fewer_branches.0.branches", 0),
        r"models with 0, 2 of 3 branches; the model with 0 branches is model\.first1\.onnx, which is",
    ),
    (put("fewer_branches.0.branches", -1), r"models with -1, 2 of 3 branches"),
    (put("fewer_branches.0.branches", 2), r"models with 2, 2 of 3 branches"),
    (put("fewer_branches.1.branches", 3), r"models with 1, 3 of 3 branches"),
    (put("spec.branches", 2), r"models with 1, 2 of 2 branches"),
    (put("fewer_branches.0.branches", 10**30), r"models with \d+, 2 of 3 branches"),
    (put("fewer_branches.0.branches", "1"), r"malformed"),
    (put("fewer_branches.0.branches", True), r"malformed"),
    (
        put("fewer_branches.0.file", "model.onnx"),
        r"the model with 1 branches is model\.onnx, which is another name or not listed",
    ),
    (put("fewer_branches.0.file", "../model.first1.onnx"), r"is \.\./model\.first1\.onnx, which is another name"),
    (put("fewer_branches.0.checks.0.passed", False), r"check parity of 1 branches failed"),
    (put("fewer_branches.0.checks", None), r"malformed"),
    (put("fewer_branches.0.lowering", {}), r"malformed"),
    (put("fewer_branches.0.layout", "stacked"), r"unknown fields .*fewer_branches\.0\.layout"),
    (put("fewer_branches", {}), r"malformed"),
    (put("spec", None), r"models with fewer branches, but the whole model has no spec or runs from another file"),
    (put("runtime.file", "report.json"), r"models with fewer branches, but the whole model has no spec or runs from"),
]


@pytest.mark.parametrize(("change", "message"), FEWER_REFUSED, ids=[row[1][:40] for row in FEWER_REFUSED])
def test_what_cannot_be_is_refused(change: Change, message: str, small_with_fewer: Path, tmp_path: Path) -> None:
    bundle = copied(small_with_fewer, tmp_path / "a.bundle")
    paraexport.load(bundle, branches=1)
    forge(bundle, change)
    with pytest.raises(BundleError, match=message) as caught:
        paraexport.load(bundle)
    assert "\n" not in str(caught.value)


FIRST_LOGITS = [
    (np.zeros((2, 5), np.float32), r"the logits of 1 branches in the golden file are malformed"),
    (np.zeros((2, 5), np.float64), r"the logits of 1 branches in the golden file are malformed"),
    (np.full((10, 5), np.nan, np.float32), r"not finite"),
    (None, r"the golden file has no logits for 1 branches"),
]
"""Of the first branch, for 10 golden images of 5 classes."""


def replace_first(bundle: Path, values: Any) -> None:
    tensors = {**load_file(bundle / "golden.safetensors"), "first_branches.1": values}
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, bundle / "golden.safetensors")
    forge(bundle)


@pytest.mark.parametrize(("values", "message"), FIRST_LOGITS, ids=["images", "type", "nan", "none"])
def test_golden_logits_of_fewer_branches_must_fit(
    values: Any, message: str, small_with_fewer: Path, tmp_path: Path
) -> None:
    bundle = copied(small_with_fewer, tmp_path / "a.bundle")
    replace_first(bundle, values)
    with pytest.raises(BundleError, match=message):
        validate.validate(bundle)
