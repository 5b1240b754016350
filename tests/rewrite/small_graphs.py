"""Hand-written float64 graphs of a few branches, in onnx's text form. They need no trace."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import numpy_helper, parser, shape_inference

B, N, D, HEADS, MLP = 3, 5, 6, 2, 8

BRANCH = """
    unit_L = LayerNormalization <axis = -1, epsilon = 0.00001> (x, gamma_L, beta_L)
    q_L = MatMul (unit_L, wq_L)
    k_L = MatMul (unit_L, wk_L)
    v_L = MatMul (unit_L, wv_L)
    qh_L = Reshape (q_L, heads)
    kh_L = Reshape (k_L, heads)
    vh_L = Reshape (v_L, heads)
    qt_L = Transpose <perm = [0, 2, 1, 3]> (qh_L)
    kt_L = Transpose <perm = [0, 2, 1, 3]> (kh_L)
    vt_L = Transpose <perm = [0, 2, 1, 3]> (vh_L)
    mixed_L = Attention (qt_L, kt_L, vt_L)
    mt_L = Transpose <perm = [0, 2, 1, 3]> (mixed_L)
    mr_L = Reshape (mt_L, tokens)
    o_L = MatMul (mr_L, wo_L)
    skip_L = Add (x, o_L)
    norm_L = LayerNormalization <axis = -1, epsilon = 0.00001> (skip_L, delta_L, zeta_L)
    h_L = MatMul (norm_L, wi_L)
    hb_L = Add (h_L, bi_L)
    act_L = Gelu (hb_L)
    f_L = MatMul (act_L, wf_L)
    fb_L = Add (f_L, bf_L)
    y_L = Add (skip_L, fb_L)
"""
"""x [B, N, D] -> y_L [B, N, D], a pre-norm layer."""
SIZES = {
    "gamma": (D,), "beta": (D,), "delta": (D,), "zeta": (D,), "bi": (MLP,), "bf": (D,), "wq": (D, D), "wk": (D, D),
    "wv": (D, D), "wo": (D, D), "wi": (D, MLP), "wf": (MLP, D), "wt": (MLP, D), "s": (D,), "one": (1,), "scalar": (),
    "place": (N, MLP), "table": (1, N, MLP), "mix": (N, N),
}  # fmt: skip


def branch(index: int, *changes: tuple[str, str]) -> str:
    """The text of one branch, after some replacements. `_L` is the number of the branch."""
    text = BRANCH
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text.replace("_L", f"_{index}")


def branches(count: int) -> list[str]:
    return [branch(index) for index in range(count)]


def summed(count: int) -> str:
    return f"    y = Sum ({', '.join(f'y_{index}' for index in range(count))})"


def graph_of(texts: Sequence[str], total: str = "", *, outputs: str = "double[b, 5, 6] y", opset: int = 23) -> ir.Model:
    """The graph of these branches and their sum. Every name that no node computes becomes a weight."""
    body = "\n".join([*texts, total or summed(len(texts))])
    header = f'<ir_version: 10, opset_import: ["" : {opset}]> small (double[b, {N}, {D}] x) => ({outputs})'
    model = parser.parse_model(f"{header} {{\n{body}\n}}")
    model.graph.initializer.extend(initializers(model))
    for node in model.graph.node:
        node.name = re.sub(r"^(\w+)_(\d+)$", r"branches.\2/\1", node.output[0])
    return ir.from_proto(shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True))


def initializers(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    computed = {"x", "", *(name for node in model.graph.node for name in node.output)}
    numbers = np.random.default_rng(0)
    for name in dict.fromkeys(name for node in model.graph.node for name in node.input):
        if name not in computed:
            yield numpy_helper.from_array(array_for(name, numbers), name)


def array_for(name: str, numbers: np.random.Generator) -> NDArray[np.generic]:
    integers = {"heads": [-1, N, HEADS, D // HEADS], "tokens": [-1, N, D]}
    if name in integers:
        return np.asarray(integers[name], np.int64)
    if name.startswith("axis"):
        return np.asarray([int(name.removeprefix("axis"))], np.int64)
    return numbers.standard_normal(SIZES[name.partition("_")[0]])


def tokens(batch: int = B, seed: int = 1) -> NDArray[np.float64]:
    return np.random.default_rng(seed).standard_normal((batch, N, D))
