"""Complete layouts are exact in float64 and close in float32. Stacked, the number of nodes does not depend on L."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from numpy.typing import NDArray

import paraexport
from paraexport.bundle import Bundle
from paraexport.checks.locate import differences
from paraexport.model.spec import Spec
from paraexport.pipeline.choices import LAYOUTS as OFFERED
from paraexport.rewrite import LAYOUTS
from tests.conftest import DIGITS, TEST_IMAGES
from tests.rewrite.exact import EXACT, difference
from tests.rewrite.graphs import SMALL, graph64, images, model_of, traced

FIELDS: list[dict[str, Any]] = [
    {},
    {"residual": "input", "pool": "mean", "qkv_bias": False},
    {"residual": "post", "branches": 2, "depth": 1, "layer_scale": True},
    {"residual": "normalized", "pool": "patch_mean", "norm": "before", "branches": 5},
]


def apply(model: ir.Model, layout: str) -> ir.Model:
    for one in LAYOUTS[layout]:
        one(model.graph)
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    return model


def test_the_command_line_offers_every_layout() -> None:
    assert tuple(LAYOUTS) == OFFERED


@pytest.mark.parametrize("fields", FIELDS, ids=str)
@pytest.mark.parametrize("layout", ["folded", "stacked"])
def test_a_layout_is_exact(layout: str, fields: dict[str, Any]) -> None:
    for batch in (1, 7):
        seen = images(batch=batch)
        assert difference(graph64(**fields), apply(graph64(**fields), layout), seen) <= EXACT


@pytest.mark.parametrize("fields", FIELDS, ids=str)
@pytest.mark.parametrize("layout", ["folded", "stacked"])
def test_a_value_that_keeps_the_name_of_a_tap_is_that_tap(layout: str, fields: dict[str, Any], tmp_path: Path) -> None:
    spec = Spec(**{**vars(SMALL), **fields})
    onnx.save(ir.to_proto(apply(ir.from_proto(traced(spec)), layout)), tmp_path / "model.onnx")
    found = differences(model_of(spec), tmp_path / "model.onnx", images(spec).astype(np.float32))
    assert len(found) >= 3
    assert [one for one in found if not one.relative <= 1e-5] == []


def answers(model: onnx.ModelProto, seen: NDArray[np.float32]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"images": seen})[0])


@pytest.mark.parametrize("fields", FIELDS, ids=str)
@pytest.mark.parametrize("layout", ["folded", "stacked"])
def test_a_layout_gives_the_same_float32_answers(layout: str, fields: dict[str, Any]) -> None:
    plain = traced(Spec(**{**vars(SMALL), **fields}))
    rewritten = ir.to_proto(apply(ir.from_proto(plain), layout))
    for batch in (1, 7):
        seen = images(batch=batch).astype(np.float32)
        expected = answers(plain, seen)
        assert np.abs(answers(rewritten, seen) - expected).max() <= 1e-5 * np.abs(expected).max()


def test_stacked_has_as_many_nodes_for_two_branches_as_for_five() -> None:
    two, five = (len(apply(graph64(branches=branches), "stacked").graph) for branches in (2, 5))
    assert two == five


@pytest.mark.parametrize("layout", ["folded", "stacked"])
def test_the_example_builds_in_every_layout(layout: str, tmp_path: Any) -> None:
    made: Bundle = paraexport.build(DIGITS, tmp_path / "a.bundle", layout=layout, data=TEST_IMAGES)
    assert all(check.passed for check in made.manifest.checks)
    applied = {one.name: one.times for one in made.manifest.rewrites}
    assert applied["select"] > 0
    assert applied["norms"] > 0
