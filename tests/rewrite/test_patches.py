"""`patches` is exact, and refuses if something else would read the changed order."""

import numpy as np
import onnx_ir as ir
import pytest

from paraexport.model.spec import Spec
from paraexport.rewrite.passes import patches
from tests.rewrite.graphs import SMALL, graph64, images
from tests.rewrite.samples import check_exact, check_untouched, copy, numbers, small

CUT = "a = Reshape(x, parts) t = Transpose<perm=[0, 3, 2, 1]>(a) f = Reshape(t, flat)"
CONSTANTS = {
    "parts": np.array([-1, 4, 3, 2]), "flat": np.array([-1, 2, 12]), "w": numbers(12, 5), "v": numbers(12, 5, seed=1),
}  # fmt: skip


def order(model: ir.Model) -> list[list[int]]:
    return [list(node.attributes["perm"].as_ints()) for node in model.graph if node.op_type == "Transpose"]


def test_an_image_is_cut_without_moving_single_pixels() -> None:
    before, after = graph64(channels=3), graph64(channels=3)
    assert patches.apply(after.graph).times == 1
    assert order(after)[0] == [0, 2, 4, 1, 3, 5]
    check_exact(before, after, images(Spec(**{**vars(SMALL), "channels": 3})))
    assert patches.apply(after.graph).times == 0


@pytest.mark.parametrize("reading", ["y = MatMul(f, w)", "p = MatMul(f, w) q = MatMul(f, v) y = Add(p, q)"])
def test_axes_that_become_the_inner_index_are_sorted(reading: str) -> None:
    before = small(f"{CUT} {reading}", **CONSTANTS)
    after = copy(before)
    assert patches.apply(after.graph).times == 1
    assert order(after) == [[0, 3, 1, 2]]
    check_exact(before, after)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"{CUT} p = MatMul(f, w) s = ReduceSum(f, axis) y = Add(p, s)", "expected only products by constants"),
        (f"{CUT} n = Relu(f) y = MatMul(n, w)", "expected only products by constants"),
    ],
)
def test_what_sees_the_order_keeps_it(text: str, reason: str) -> None:
    before = small(text, axis=np.array([2]), **CONSTANTS)
    after = copy(before)
    applied = patches.apply(after.graph)
    check_untouched(before, after, applied)
    assert [reason in line for line in applied.refusals] == [True]


def test_a_transpose_of_heads_is_left_alone_in_silence() -> None:
    text = "a = Reshape(x, parts) t = Transpose<perm=[0, 2, 1, 3]>(a) f = Reshape(t, rows) y = MatMul(f, m)"
    before = small(text, parts=np.array([-1, 4, 2, 3]), rows=np.array([-1, 2, 12]), m=numbers(12, 5))
    after = copy(before)
    applied = patches.apply(after.graph)
    check_untouched(before, after, applied)
    assert applied.refusals == []
