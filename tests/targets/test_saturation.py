"""Whether products of uint8 and int8 saturate: against what the CPU says of itself; the model against onnx's own."""

import platform
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from paraexport.targets.ort import saturation

CPUINFO = Path("/proc/cpuinfo")
VNNI = {"avx512_vnni", "avx_vnni"}


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
    assert onnx.load_from_string(saturation.PRODUCT) == expected


@pytest.mark.skipif(platform.machine() not in {"x86_64", "AMD64"}, reason="other CPUs have other kernels")
@pytest.mark.skipif(not CPUINFO.exists(), reason="the CPU's instructions are read from /proc/cpuinfo")
def test_kernels_saturate_where_the_cpu_has_no_vnni() -> None:
    flags = set(CPUINFO.read_text(encoding="utf-8").partition("flags")[2].partition("\n")[0].split())
    if "avx2" not in flags:
        pytest.skip("kernels without AVX2 add up in 32 bits")
    assert saturation.saturates() == flags.isdisjoint(VNNI)
