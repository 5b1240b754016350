"""Every name of TensorRT's Python API that is used exists in the bindings of 10.13, 10.16 and 11.4.

TensorRT itself is not installable everywhere; `api/` has the names in its bindings, and the script that lists them.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import paraexport.targets.trt
from tests.targets.engines import require_rtx

SOURCES = sorted(Path(paraexport.targets.trt.__file__).parent.glob("*.py"))
LISTS = sorted((Path(__file__).parent / "api").glob("tensorrt-*.txt"))
OBJECTS = {
    "builder": "Builder",
    "config": "IBuilderConfig",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "profile": "IOptimizationProfile",
    "layer": "ILayer",
    "attention": "IAttention",
    "engine": "ICudaEngine",
    "runtime": "Runtime",
    "runtime_config": "IRuntimeConfig",
    "context": "IExecutionContext",
    "refitter": "Refitter",
}
"""Variable name in the sources of `targets.trt` -> the TensorRT class of its value."""
ELSEWHERE = {
    "ILayer.attention": "IAttentionInputLayer.attention",
    "ILayer.__class__": "ILayer",
    "ILayer.get": "",  # of the inspector's JSON, as the two below
    "ILayer.inputs": "",
    "ILayer.nodes": "",
    "OnnxParser.refit_from_file": "OnnxParserRefitter.refit_from_file",
}
RTX_ALONE = {
    "ComputeCapability", "ComputeCapability.__members__", "IBuilderConfig.num_compute_capabilities",
    "IBuilderConfig.set_compute_capability", "CudaGraphStrategy", "CudaGraphStrategy.WHOLE_GRAPH_CAPTURE",
    "IRuntimeConfig.create_runtime_cache", "IRuntimeConfig.cuda_graph_strategy", "IRuntimeConfig.set_runtime_cache",
}  # fmt: skip
SINCE_10_14 = {
    "IAttention.decomposable", "IAttentionInputLayer", "IAttentionInputLayer.attention", "LayerType.ATTENTION_INPUT",
}  # fmt: skip
"""Used only for `Attention` nodes, and only if the library has them."""
BASES = {"ILogger.ERROR": "ILogger.Severity", "ILogger.WARNING": "ILogger.Severity"}


def names_in(source: Path) -> Iterator[str]:
    """`Builder.create_network` for `builder.create_network`, `BuilderFlag.TF32` for `trt.BuilderFlag.TF32`."""
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Attribute):
            continue
        text = ast.unparse(node).removeprefix("self.")
        if text.startswith("trt."):
            yield ".".join(text.split(".")[1:3])
        elif isinstance(node.value, ast.Name | ast.Attribute):
            owner = ast.unparse(node.value).rpartition(".")[2]
            if owner in OBJECTS:
                yield f"{OBJECTS[owner]}.{node.attr}"


USED = sorted(
    {
        ELSEWHERE.get(name, name)
        for source in SOURCES
        for name in names_in(source)
        if ELSEWHERE.get(name, name) and name not in {"__version__", "ILayer.outputs"}
    }
)


def test_the_names_are_found_and_the_lists_are_there() -> None:
    assert [file.stem for file in LISTS] == ["tensorrt-10.13.3.9", "tensorrt-10.16.1.11", "tensorrt-11.4.0.106"]
    assert len(USED) > 60
    assert {"Builder.build_serialized_network", "IExecutionContext.execute_async_v3", "BuilderFlag.TF32"} <= {*USED}


@pytest.mark.parametrize("file", LISTS, ids=lambda file: file.stem)
def test_every_name_is_in_the_bindings_of_tensorrt(file: Path) -> None:
    known = {*file.read_text().split()}
    missing = {name for name in USED if BASES.get(name, name) not in known}
    assert missing - RTX_ALONE == (SINCE_10_14 if "10.13" in file.stem else set())


def test_every_name_is_in_tensorrt_rtx() -> None:
    require_rtx()
    import tensorrt_rtx

    for name in USED:
        found: object = tensorrt_rtx
        for part in name.split("."):
            assert hasattr(found, part), name
            found = getattr(found, part)


def driver_calls(source: Path) -> Iterator[tuple[str, int]]:
    """(function of the driver, number of arguments) for each call of `driver.call("…", …)` and `library.…(…)`."""
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if node.func.attr == "call" and isinstance(node.args[0], ast.Constant):
            yield str(node.args[0].value), len(node.args) - 1
        elif node.func.attr.startswith("cu"):
            yield node.func.attr, len(node.args)
        elif node.func.attr == "allocate" and isinstance(node.args[0], ast.Constant):
            yield str(node.args[0].value), 2


CALLS = sorted({call for source in SOURCES for call in driver_calls(source)})


@pytest.mark.parametrize("version", ["12.0", "13.5"])
def test_every_call_of_the_driver_is_in_the_header_with_as_many_parameters(version: str) -> None:
    """The first CUDA 12, and the newest."""
    known = {*(Path(__file__).parent / f"api/cuda-{version}.txt").read_text().splitlines()}
    assert len(CALLS) > 20
    assert {"cuGraphLaunch", "cuMemAlloc_v2", "cuStreamBeginCapture_v2"} <= {name for name, _ in CALLS}
    assert [name for name, count in CALLS if f"{name} {count}" not in known] == []
