"""Every operator computes the same for all branches at once, for every arrangement of its input."""

import onnx
import onnx_ir as ir
import pytest

from paraexport.rewrite.passes import stack
from tests.rewrite.exact import EXACT, difference
from tests.rewrite.small_graphs import BRANCH, branch, graph_of, summed, tokens

GELU = "act_L = Gelu (hb_L)"
DOWN = "f_L = MatMul (act_L, wf_L)"
LAST = "y_L = Add (skip_L, fb_L)"
ATTENTION = "mixed_L = Attention (qt_L, kt_L, vt_L)"
BACK = "mt_L = Transpose <perm = [0, 2, 1, 3]> (mixed_L)"
NORM = "norm_L = LayerNormalization <axis = -1, epsilon = 0.00001> (skip_L, delta_L, zeta_L)"

OPERATORS: dict[str, tuple[str, str]] = {
    "position": (GELU, "act_L = Add (hb_L, place_L)"),
    "shared position": (GELU, "act_L = Add (hb_L, place)"),
    "table": (GELU, "act_L = Mul (table_L, hb_L)"),
    "before heads": ("(q_L, heads)", "(q_L, heads)\n i_L = Add (k_L, gamma_L)\n j_L = Reshape (i_L, heads)"),
    "scalar": (GELU, "act_L = Mul (hb_L, scalar_L)"),
    "one number": (GELU, "act_L = Sub (one_L, hb_L)"),
    "power": (GELU, "a_L = Abs (hb_L)\n act_L = Pow (a_L, scalar)"),
    "slope": (GELU, "act_L = PRelu (hb_L, bi_L)"),
    "bounds": (GELU, "act_L = Clip (hb_L, scalar)"),
    "mixing of tokens": (GELU, "act_L = MatMul (mix_L, hb_L)"),
    "shared mixing of tokens": (GELU, "act_L = MatMul (mix, hb_L)"),
    "product with the input": (
        GELU,
        "t_L = Transpose <perm = [0, 2, 1]> (x)\n s_L = MatMul (x, t_L)\n act_L = MatMul (s_L, hb_L)",
    ),
    "scores and softmax": (
        ATTENTION,
        "kk_L = Transpose <perm = [0, 1, 3, 2]> (kt_L)\n a_L = MatMul (qt_L, kk_L)\n p_L = Softmax (a_L)\n"
        "mixed_L = MatMul (p_L, vt_L)",
    ),
    "softmax over tokens": (GELU, "act_L = Softmax <axis = 1> (hb_L)"),
    "softmax over channels": (GELU, "act_L = Softmax (hb_L)"),
    "shared query": ("q_L = MatMul (unit_L, wq_L)", "q_L = Relu (x)"),
    "concat and slice": (
        DOWN,
        "c_L = Concat <axis = 1> (act_L, act_L)\n d_L = Slice (c_L, axis2, axis7, axis1)\n f_L = MatMul (d_L, wf_L)",
    ),
    "slice of channels": (DOWN, "d_L = Slice (act_L, axis0, axis6, axis2)\n f_L = Mul (d_L, s_L)"),
    "gather": (DOWN, "t_L = Gather <axis = 1> (act_L, axis2)\n f_L = MatMul (t_L, wf_L)"),
    "squeeze and gemm": (
        DOWN,
        "t_L = Slice (act_L, axis2, axis3, axis1)\n u_L = Squeeze (t_L, axis1)\n"
        "w_L = Gemm (u_L, wt_L, bf_L)\n f_L = Unsqueeze (w_L, axis1)",
    ),
    "mean": (DOWN, "t_L = ReduceMean (act_L, axis1)\n f_L = MatMul (t_L, wf_L)"),
    "mean of channels": (GELU, "t_L = ReduceMean (hb_L, axis2)\n act_L = Sub (hb_L, t_L)"),
    "mean, axis gone": (DOWN, "t_L = ReduceMean <keepdims = 0> (act_L, axis1)\n u_L = MatMul (t_L, wf_L)\n"
                              "f_L = Unsqueeze (u_L, axis1)"),
    "turned samples": (
        GELU,
        "t_L = Transpose <perm = [1, 0, 2]> (hb_L)\n u_L = Gelu (t_L)\n act_L = Transpose <perm = [1, 0, 2]> (u_L)",
    ),
    "turned heads": (BACK, "mt_L = Transpose <perm = [0, 3, 2, 1]> (mixed_L)"),
    "turned back": (BACK, "mt_L = Transpose <perm = [0, 1, 3, 2]> (mixed_L)"),
    "norm without offset": ("(skip_L, delta_L, zeta_L)", "(skip_L, delta_L)"),
    "norm with one scale": ("(skip_L, delta_L, zeta_L)", "(skip_L, delta, zeta_L)"),
    "norm with one offset": ("(skip_L, delta_L, zeta_L)", "(skip_L, delta_L, zeta)"),
    "one norm": ("(skip_L, delta_L, zeta_L)", "(skip_L, delta, zeta)"),
    "norm inside": (GELU, "act_L = LayerNormalization (hb_L, bi, bi)"),
    "norm at the end": (LAST, "z_L = Add (skip_L, fb_L)\n y_L = LayerNormalization (z_L, s_L, gamma_L)"),
    "scale at the end": (LAST, "z_L = Mul (fb_L, s_L)\n y_L = Add (skip_L, z_L)"),
    "wide to the end": (LAST, "z_L = MatMul (x, wq_L)\n w_L = Relu (z_L)\n y_L = Add (w_L, fb_L)"),
    "shared to the end": (LAST, "z_L = MatMul (x, wq_L)\n y_L = Add (z_L, fb_L)"),
    "no skip": (LAST, "y_L = Identity (fb_L)"),
    "shared skip": (LAST, "y_L = Add (x, fb_L)"),
    "shared values": (GELU, "g_L = Gelu (x)\n w_L = MatMul (g_L, wi)\n act_L = Mul (w_L, hb_L)"),
}  # fmt: skip


@pytest.mark.parametrize("change", OPERATORS.values(), ids=OPERATORS)
@pytest.mark.parametrize("first", [True, False], ids=["of a shared input", "of one input each"])
def test_operators(change: tuple[str, str], first: bool) -> None:
    """Operators with one input read a wide product, which has the branches in its last axis."""
    texts = []
    for index in range(3):
        changes = [change]
        if first and NORM in BRANCH.replace(*change):
            changes.append((NORM, "norm_L = Tanh (x)"))
        texts.append(branch(index, *changes))
    before, after = (graph_of(texts, summed(3), outputs="double[b, n, 6] y") for _ in range(2))
    applied = stack.apply(after.graph)
    assert (applied.times, applied.refusals) == (1, [])
    onnx.checker.check_model(ir.to_proto(after), full_check=True)
    for batch in (1, 7):
        assert difference(before, after, tokens(batch)) <= EXACT


REFUSED = {
    "no rule": (GELU, "act_L = CumSum (hb_L, axis1)", "CumSum cannot be stacked"),
    "softmax of samples": (GELU, "act_L = Softmax <axis = 0> (hb_L)", "the first axis"),
    "mean of samples": (GELU, "t_L = ReduceMean (hb_L, axis0)\n act_L = Sub (hb_L, t_L)", "the first axis"),
    "concat of samples": (
        GELU, "t_L = Concat <axis = 0> (hb_L, hb_L)\n act_L = Slice (t_L, axis0, axis1, axis0)", "the first axis",
    ),
    "norm of tokens": (GELU, "act_L = LayerNormalization <axis = 1> (hb_L, place_L)", "over the last axis"),
    "norm with a computed bias": (
        NORM,
        "m_L = ReduceMean <keepdims = 0> (x, axis0)\n w_L = ReduceMean <keepdims = 0> (m_L, axis0)\n"
        "norm_L = LayerNormalization <axis = -1, epsilon = 0.00001> (skip_L, delta, w_L)",
        "the bias of LayerNormalization is computed",
    ),
    "several outputs": (
        GELU, "p_L, r_L = Split <axis = 2, num_outputs = 2> (hb_L)\n act_L = Concat <axis = 2> (r_L, p_L)",
        "Split cannot be stacked",
    ),
    "mask": (ATTENTION, "mixed_L = Attention (qt_L, kt_L, vt_L, mix_L)", "a mask"),
    "product by a vector": (
        GELU, "p_L = MatMul (hb_L, bi_L)\n w_L = Unsqueeze (p_L, axis2)\n act_L = Mul (w_L, hb_L)",
        "a factor is a vector; expected two matrices",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("old", "new", "reason"), REFUSED.values(), ids=REFUSED)
def test_refusals_leave_the_graph_whole(old: str, new: str, reason: str) -> None:
    texts = [branch(index, (old, new)) for index in range(2)]
    model = graph_of(texts, summed(2), outputs="double[b, n, 6] y")
    nodes, weights = [node.name for node in model.graph], list(model.graph.initializers)
    applied = stack.apply(model.graph)
    assert applied.times == 0
    assert len(applied.refusals) == 1
    assert applied.refusals[0].startswith("branches.0/")
    assert reason in applied.refusals[0]
    assert ([node.name for node in model.graph], list(model.graph.initializers)) == (nodes, weights)
