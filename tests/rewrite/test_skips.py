"""x + y before a norm becomes a Sum. Other Adds stay."""

import numpy as np
import pytest

from paraexport.rewrite.passes import skips
from tests.rewrite.exact import difference
from tests.rewrite.graphs import count, graph64, images
from tests.rewrite.samples import FLOAT32, MODELS, X, check_exact, copy, float32_difference, graph32, small

SKIPS = """f = Relu(x) s = Add(x, f) n = LayerNormalization<axis=-1>(s, g) c = Add(n, b)
m = LayerNormalization<axis=-1>(c, g) z = Add(m, f) y = Add(z, s)"""


def test_a_skip_before_a_norm_is_a_sum_and_nothing_else_is() -> None:
    ones = np.ones(X.shape[-1])
    before = small(SKIPS, g=ones, b=ones)
    after = copy(before)
    assert skips.apply(after.graph).times == 1
    assert {node.name: node.op_type for node in after.graph if node.op_type in ("Add", "Sum")} == {
        "s": "Sum", "c": "Add", "z": "Add", "y": "Add",
    }  # fmt: skip
    check_exact(before, after)
    assert skips.apply(after.graph).times == 0


@pytest.mark.parametrize("name", MODELS)
def test_traced_models_compute_the_very_same(name: str) -> None:
    before, after = graph64(**MODELS[name]), graph64(**MODELS[name])
    applied = skips.apply(after.graph)
    assert applied.times == count(before, "Add") - count(after, "Add") > 0
    assert difference(before, after, images()) == 0


@pytest.mark.parametrize("name", MODELS)
def test_float32(name: str) -> None:
    after = graph32(**MODELS[name])
    skips.apply(after.graph)
    assert float32_difference(after, **MODELS[name]) <= FLOAT32
