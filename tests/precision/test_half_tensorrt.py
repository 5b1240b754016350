"""Every graph in half is compiled by TensorRT-RTX, strongly typed, on a machine without a GPU."""

from __future__ import annotations

from typing import Any

import onnx
import pytest

from paraexport.model.spec import Spec
from paraexport.precision.half.formats import HalfType
from paraexport.rewrite import LAYOUTS
from tests.precision.graphs import KINDS, float32_graph, in_half
from tests.precision.test_half_conversion import module_of, ranges

trt: Any = pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
POOLS = {"cls": 0, "mean": 1}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("pool", POOLS)
def test_tensorrt_rtx_compiles_it(pool: str, layout: str, kind: HalfType) -> None:
    module = module_of(POOLS[pool])
    assert module.spec.pool == pool
    converted, _ = in_half(float32_graph(module, layout), kind, ranges(module, layout))
    assert compiled(converted, module.spec) > 0


def compiled(proto: onnx.ModelProto, spec: Spec) -> int:
    """The size of the engine in bytes."""
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    parsed = parser.parse(proto.SerializeToString())
    assert parsed, [str(parser.get_error(index)) for index in range(parser.num_errors)]
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    profile = builder.create_optimization_profile()
    sizes = [(batch, spec.channels, *spec.image_size) for batch in (1, 4, 8)]
    profile.set_shape("images", *sizes)
    config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    assert engine is not None
    return int(engine.nbytes)
