"""The test for saturating products agrees with the flags of the CPU, and no product of a build saturates."""

import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from paraexport import targets
from paraexport.targets import openvino, saturation
from paraexport.targets.folder import Folder
from paraexport.targets.ort import saturation as ort
from paraexport.targets.ort.probe import open_probe
from tests.targets.engines import save

CPUINFO = Path("/proc/cpuinfo")
VNNI = {"avx512_vnni", "avx_vnni"}
STEP, ZERO, ONE = np.array(1, np.float32), np.array(0, np.uint8), np.array(1, np.uint8)
LARGEST = np.full((64, 32), 127, np.int8)
"""Two of these, times 255, do not fit into 16 bits."""
IMAGES = np.full((3, 2, 1, 64), 255, np.float32)
EXPECTED = 64 * 255 * 127


def require_openvino() -> None:
    pytest.importorskip("openvino", reason="OpenVINO is not installed")


def test_the_model_is_one_product_of_uint8_and_int8() -> None:
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b"], ["y"])],
        "g",
        [
            helper.make_tensor_value_info("a", TensorProto.UINT8, ["m", "k"]),
            helper.make_tensor_value_info("b", TensorProto.INT8, ["k", "n"]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.INT32, ["m", "n"])],
    )
    expected = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 10)], ir_version=4)
    assert onnx.load_from_string(ort.PRODUCT) == expected


def in_16_bits(images: NDArray[np.uint8], weight: NDArray[np.int8]) -> NDArray[np.int64]:
    """As VPMADDUBSW adds: pairs of products, clipped."""
    products = images.astype(np.int64)[:, :, None] * weight
    pairs = products.reshape(len(images), -1, 2, weight.shape[1]).sum(2)
    return np.asarray(pairs.clip(-(2**15), 2**15 - 1).sum(1), np.int64)


def test_a_product_that_was_added_up_in_16_bits_is_told_apart() -> None:
    assert saturation.saturates(in_16_bits)
    assert not saturation.saturates(lambda images, weight: images.astype(np.int64) @ weight)


@pytest.mark.skipif(platform.machine() not in {"x86_64", "AMD64"}, reason="other CPUs have other kernels")
@pytest.mark.skipif(not CPUINFO.exists(), reason="the CPU's instructions are read from /proc/cpuinfo")
@pytest.mark.parametrize("asked", [ort.saturates, openvino.saturates], ids=["onnxruntime", "openvino"])
def test_kernels_saturate_where_the_cpu_has_no_vnni(asked: Callable[[], bool]) -> None:
    require_openvino()
    flags = set(CPUINFO.read_text(encoding="utf-8").partition("flags")[2].partition("\n")[0].split())
    if "avx2" not in flags:
        pytest.skip("kernels without AVX2 add up in 32 bits")
    assert asked() == flags.isdisjoint(VNNI)


QUANTISED = """
    g (float[N, C, H, 64] images) => (float[N, C, H, 32] y) {
        q = QuantizeLinear (images, step, zero)
        d = DequantizeLinear (q, step, zero)
        w = DequantizeLinear (weight, step)
        y = MatMul (d, w)
    }
"""


def quantised(folder: Path) -> Path:
    return save(folder / "model", QUANTISED, step=STEP, zero=ZERO, weight=LARGEST)


def test_no_product_of_openvino_is_wrong_and_what_runs_in_float32_is_told(tmp_path: Path) -> None:
    require_openvino()
    folder = quantised(tmp_path)
    session = targets.get("openvino").open_session(
        Folder(folder), targets.Workload(image=IMAGES.shape[1:], max_batch=3, precision="int8")
    )
    assert (session(IMAGES) == EXPECTED).all()
    low = targets.get("openvino").int8_products(Folder(folder))
    assert ("computed in float32" in low) == openvino.saturates()


@pytest.mark.parametrize("optimised", [True, False])
def test_no_quantised_product_of_a_probe_is_wrong(optimised: bool, tmp_path: Path) -> None:
    """Whoever looks for a fault in a graph would find one of ONNX Runtime's kernels instead."""
    (got,) = open_probe(ir.load(quantised(tmp_path) / "model.onnx"), ["y"], optimised=optimised)(IMAGES)
    assert (got == EXPECTED).all()


@pytest.mark.parametrize("optimised", [True, False])
@pytest.mark.parametrize(
    ("leading", "bias"),
    [((), None), ((), np.arange(32, dtype=np.float32)), ((2,), None)],
    ids=["a weight", "and a bias", "a weight for each branch"],
)
def test_no_product_of_onnx_runtimes_own_operator_is_wrong(
    optimised: bool, leading: tuple[int, ...], bias: NDArray[np.float32] | None
) -> None:
    steps = np.linspace(1, 2, 32, dtype=np.float32)
    weight = np.broadcast_to(LARGEST, (*leading, 64, 32)).copy()
    constants: dict[str, NDArray[Any]] = {"step": STEP, "zero": ONE, "w": weight, "steps": steps}
    if bias is not None:
        constants["bias"] = bias
    inputs = ["q", "w", "step", "steps", "zero", "", "bias" if bias is not None else ""]
    graph = helper.make_graph(
        [
            helper.make_node("QuantizeLinear", ["images", "step", "zero"], ["q"]),
            helper.make_node("MatMulIntegerToFloat", inputs, ["y"], domain="com.microsoft"),
        ],
        "g",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, IMAGES.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    (got,) = open_probe(ir.from_proto(model), ["y"], optimised=optimised)(IMAGES)
    # Quantised, 255 is 255 + 1, which is clipped, less the zero point.
    expected = 64 * 254 * 127 * steps.astype(np.float64) + (0 if bias is None else bias)
    assert got.shape == (3, 2, 1, 32)
    assert np.abs(got / expected - 1).max() <= 1e-6
