"""`auto` in int8 takes no candidate that is far less accurate than another, however fast it is."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper

from paraexport import targets
from paraexport.images.made_up import made_up_samples
from paraexport.model.spec import Preprocessing
from paraexport.pipeline import candidates, selection
from paraexport.pipeline.options import Options
from tests.precision.small import on_runtime, traced_file
from tests.rewrite.graphs import SMALL

UNEVEN = 300.0


def unbalanced(path: Path) -> None:
    """Queries of branch 0 times a number and its keys by it: the same answers, and weights of two sizes in a stack."""
    model = onnx.load(path)
    changed = 0
    for tensor in model.graph.initializer:
        for part, factor in (("query", UNEVEN), ("key", 1 / UNEVEN)):
            if tensor.name.startswith("branches.0/") and f"attention/{part}" in tensor.name:
                tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * factor, tensor.name))
                changed += 1
    assert changed
    onnx.save(model, path)


@pytest.mark.parametrize("uneven", [False, True], ids=["even", "uneven"])
def test_a_layout_that_costs_accuracy_is_no_candidate(uneven: bool, tmp_path: Path) -> None:
    traced = traced_file(tmp_path / "traced", residual="input", pool="mean")
    if uneven:
        unbalanced(traced)
    size = SMALL.image_size
    samples = made_up_samples(Preprocessing(image_size=size, channels=SMALL.channels, resize=size))
    logits = on_runtime(onnx.load(traced), samples.pick(len(samples)))[0]
    seen = candidates.Images(samples, samples, logits)
    options = Options(target="onnxruntime", precision="int8", layout="auto", calibrator="minmax", calib=tmp_path)
    workload = targets.Workload(image=(SMALL.channels, *size), max_batch=8, precision="int8")
    (tmp_path / "work").mkdir()
    made = candidates.write(traced, options, ("onnxruntime",), tmp_path / "work", seen)
    failed = {one.layout for one in selection.most_accurate(made, seen, workload) if one.failure}
    assert failed == ({"stacked"} if uneven else set())
    broken = [dataclasses.replace(one, failure="no compiler") for one in made[:1]]
    assert selection.most_accurate([*broken, *made[1:]], seen, workload)[0].failure == "no compiler"
