"""A real TensorRT compiles every graph of a build, and errors name the wrong node of other graphs."""

from __future__ import annotations

import dataclasses
import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from paraexport import targets
from paraexport.errors import EngineError, InputError
from paraexport.pipeline.options import Options
from paraexport.rewrite import LAYOUTS
from paraexport.targets.compilation import EngineOptions
from paraexport.targets.folder import Folder
from paraexport.targets.profiles import Profile
from paraexport.targets.trt import info
from paraexport.targets.trt.flavour import RTX, TENSORRT
from paraexport.targets.trt.plan import UNLISTED
from paraexport.timing.clock import silent
from tests.conftest import ROOT
from tests.targets.engines import SMALL, compile_here, require_rtx, save, tensorrt_rtx, write_graph

PRECISIONS = {"fp32": "float", "fp16": "half", "bf16": "bf16", "int8": "int8"}
CONVENTIONS = {"released": "normalized", "pre-norm": "input", "post-norm": "post"}
EVERY = [*itertools.product(LAYOUTS, PRECISIONS, CONVENTIONS, ("cls", "mean"))]
FEW = [one for one in EVERY if one[2:] == ("released", "cls")]


OPERATORS = {
    "Add", "Cast", "Concat", "DequantizeLinear", "Expand", "Gather", "Gelu", "Gemm", "LayerNormalization", "MatMul",
    "Mul", "QuantizeLinear", "ReduceMean", "ReduceSum", "Reshape", "Shape", "Slice", "Softmax", "Squeeze", "Sum",
    "Transpose",
}  # fmt: skip
"""In `docs/operators.md` of onnx-tensorrt 10.0 each of these is supported at opset 20; 10.13 is the oldest in use."""


def check_compiles(layout: str, precision: str, convention: str, pool: str, folder: Path) -> None:
    spec = dataclasses.replace(SMALL, residual=CONVENTIONS[convention], pool=pool)  # type: ignore[arg-type]
    meant = write_graph(spec, layout, precision, folder)
    graph = onnx.load(folder / "model.onnx")
    assert [one.version for one in graph.opset_import] == [20]
    assert {node.op_type for node in graph.graph.node} <= OPERATORS
    engine_info = compile_here(folder)
    assert (folder / "model.engine").stat().st_size == engine_info.size_bytes > 0
    assert engine_info.profiles == (Profile(1, 8, 16),)
    assert (precision == "fp32") == (not meant)
    kind = PRECISIONS[precision]
    assert {name: engine_info.products[name] for name in meant} == dict.fromkeys(meant, (kind, kind))
    if precision == "fp32":
        assert {kind for kinds in engine_info.products.values() for kind in kinds} == {"float"}


@pytest.mark.parametrize(("layout", "precision", "convention", "pool"), FEW)
def test_a_graph_compiles_and_its_products_are_of_its_types(
    layout: str, precision: str, convention: str, pool: str, tmp_path: Path
) -> None:
    check_compiles(layout, precision, convention, pool, tmp_path / "graph")


@pytest.mark.sweep
@pytest.mark.parametrize(("layout", "precision", "convention", "pool"), [one for one in EVERY if one not in FEW])
def test_every_graph_compiles(layout: str, precision: str, convention: str, pool: str, tmp_path: Path) -> None:
    check_compiles(layout, precision, convention, pool, tmp_path / "graph")


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_attention_is_fused_in_half_where_softmax_is_float32(precision: str, tmp_path: Path) -> None:
    write_graph(SMALL, "stacked", precision, tmp_path / "graph")
    nodes = onnx.load(tmp_path / "graph/model.onnx").graph.node
    assert {"Softmax"} <= {node.op_type for node in nodes}
    assert "Attention" not in {node.op_type for node in nodes}
    assert compile_here(tmp_path / "graph").fused_attention


def test_an_attention_that_could_not_be_written_out_compiles_as_it_is(tmp_path: Path) -> None:
    """In float32 there is no kernel for it as a whole."""
    heads, products = "float[batch,2,8,4]", "q = MatMul(images, a) k = MatMul(images, b) v = MatMul(images, c)"
    causal = f"g ({heads} images) => ({heads} logits) {{ {products} logits = Attention<is_causal=1>(q, k, v) }}"
    compile_here(save(tmp_path / "graph", causal, opset=23, a=ONES, b=2 * ONES, c=3 * ONES))


ONES = np.ones((4, 4), np.float32)
WRONG: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "uint8 Q/DQ": (
        "g (float[batch,4] images) => (float[batch,4] logits)"
        "{ q = QuantizeLinear(images, s, z) d = DequantizeLinear(q, s, z) logits = MatMul(d, w) }",
        {"s": np.float32(0.1), "z": np.uint8(128), "w": ONES},
        "branches.0/q (QuantizeLinear)",
        "zero point",
    ),
    "mixed-type Add": (
        "g (float[batch,4] images) => (float16[batch,4] logits) { h = Cast<to=10>(images) logits = Add(h, w) }",
        {"w": np.ones(4, np.float32)},
        "branches.0/logits (Add)",
        "must have same input types. But they are of types Half and Float",
    ),
    "int32 bias DQ": (
        "g (float[batch,4] images) => (float[batch,4] logits)"
        "{ m = MatMul(images, w) d = DequantizeLinear(b, s) logits = Add(m, d) }",
        {"s": np.float32(0.1), "b": np.ones(4, np.int32), "w": ONES},
        "branches.0/d (DequantizeLinear)",
        "input has type Int32",
    ),
    "unsupported operator": (
        "g (float[batch,4] images) => (float[batch,4] logits) { m = MatMul(images, w) logits = Bernoulli(m) }",
        {"w": ONES},
        "branches.0/logits (Bernoulli)",
        "there is no such operator",
    ),
    "dynamic quantisation": (
        "g (float[batch,4] images) => (float[batch,4] logits)"
        "{ q, s, z = DynamicQuantizeLinear(images) m = MatMulInteger(q, w) logits = Cast<to=1>(m) }",
        {"w": np.ones((4, 4), np.int8)},
        "branches.0/m (MatMulInteger)",
        "there is no such operator",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_graph_is_refused_by_the_name_of_the_node(name: str, tmp_path: Path) -> None:
    text, constants, node, reason = WRONG[name]
    with pytest.raises(EngineError) as caught:
        compile_here(save(tmp_path / "graph", text, **constants))
    assert str(caught.value.got).count(node) == 1
    assert reason in str(caught.value.got)
    assert "checkMacros" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "graph/model.engine").exists()


def test_an_image_size_that_is_not_fixed_is_refused(tmp_path: Path) -> None:
    text = "g (float[batch,1,h,w] images) => (float[batch,1,h,w] logits) { logits = Relu(images) }"
    with pytest.raises(EngineError, match=r"not fixed.*got \[-1, 1, -1, -1\]"):
        compile_here(save(tmp_path / "graph", text))


NOT_TAKEN, NOTHING = "does not support the graph", "expected one input and one output of float32, got inputs: none"


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"no model", NOT_TAKEN), *((one, rf"{NOTHING}|{NOT_TAKEN}") for one in (b"hello", b"\x00\xff" * 500, b""))],
)
def test_a_file_that_is_no_onnx_is_refused(content: bytes, words: str, tmp_path: Path) -> None:
    """The parser of TensorRT-RTX 1.7 fails on the first alone, and reads a network of nothing in the others."""
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(EngineError, match=rf"model\.onnx: .*({words})"):
        compile_here(tmp_path)


@pytest.mark.parametrize(
    ("text", "got"),
    [
        ("g () => (float[4,4] logits) { logits = MatMul(w, w) }", "inputs: none; outputs: FLOAT"),
        ("g (float[n,4] a, float[n,4] b) => (float[n,4] logits) { logits = Add(a, b) }", "inputs: FLOAT, FLOAT;"),
        ("g (float[n,4] a) => (float[n,4] b, float[n,4] c) { b = Add(a, a) c = MatMul(a, w) }", "puts: FLOAT, FLOAT"),
        ("g (float16[n,4] images) => (float16[n,4] logits) { logits = Add(images, images) }", "inputs: HALF;"),
        ("g (int64[n,4] images) => (float[n,4] logits) { logits = Cast<to=1>(images) }", "inputs: INT64;"),
    ],
)
def test_another_form_than_images_to_logits_is_refused(text: str, got: str, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="expected one input and one output of float32") as caught:
        compile_here(save(tmp_path / "graph", text, w=ONES))
    assert got in str(caught.value.got)
    assert not (tmp_path / "graph/model.engine").exists()


def test_uint8_is_refused_where_its_zero_point_is_0_too(tmp_path: Path) -> None:
    """TensorRT-RTX 1.7 compiles it, as int8: it would answer 127 for 255."""
    text, constants, *_ = WRONG["uint8 Q/DQ"]
    zero = save(tmp_path / "initializer", text, **{**constants, "z": np.uint8(0)})
    inside = text.replace("{", "{ z = Constant<value = uint8 {0}>()", 1)
    constant = save(tmp_path / "constant", inside, **{name: constants[name] for name in ("s", "w")})
    for folder in (zero, constant):
        nodes = r"branches\.0/q \(QuantizeLinear\), branches\.0/d \(DequantizeLinear\)"
        with pytest.raises(EngineError, match=rf"read as int8 \(expected int8 with zero point 0, got {nodes}\)"):
            compile_here(folder)
        assert not (folder / "model.engine").exists()


@pytest.fixture
def simple(tmp_path: Path) -> Path:
    text = "g (float[batch,4] images) => (float[batch,4] logits) { logits = MatMul(images, w) }"
    return save(tmp_path / "graph", text, w=ONES)


def test_profiles_that_exclude_a_batch_are_refused(simple: Path) -> None:
    with pytest.raises(EngineError, match="no profile accepts a batch of 4 "):
        compile_here(simple, EngineOptions(profiles=(Profile(1, 2, 3),)), max_batch=4)
    assert not (simple / "model.engine").exists()


def test_the_profiles_are_what_was_asked_for(simple: Path) -> None:
    three = (Profile(1, 1, 1), Profile(2, 3, 3), Profile(4, 4, 4))
    assert compile_here(simple, EngineOptions(profiles=three), max_batch=4).profiles == three
    assert info.read(Folder(simple)).profiles == three
    assert targets.optima("tensorrt-rtx", Folder(simple)) == (1, 3, 4)
    # An engine names what belongs to a later profile so.
    plan = (simple / "model.engine").read_bytes()
    assert [f"images [profile {number}]".encode() in plan for number in (1, 2, 3)] == [True, True, False]
    assert compile_here(simple, max_batch=1).profiles == (Profile(1, 1, 1),)


@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8"])
def test_the_products_are_of_their_types_in_every_profile(precision: str, tmp_path: Path) -> None:
    meant = write_graph(SMALL, "stacked", precision, tmp_path / "graph")
    options = EngineOptions(profiles=(Profile(1, 1, 1), Profile(2, 8, 16)))
    engine_info = compile_here(tmp_path / "graph", options)
    kind = PRECISIONS[precision]
    # In half, what is a matrix times a vector for one image is no product of the listing.
    unlisted = {UNLISTED} if precision in {"fp16", "bf16"} else set()
    assert all({kind} <= {*engine_info.products[name]} <= {kind} | unlisted for name in meant)
    assert not any("profile" in name for name in engine_info.products)


def test_compute_capabilities_that_it_knows_and_does_not(simple: Path) -> None:
    assert compile_here(simple).built_for == ()
    some = ("8.6", "8.9")
    assert compile_here(simple, EngineOptions(compute_capabilities=some)).built_for == some
    with pytest.raises(EngineError, match=r"compute capability 9\.0.*expected some of 7\.5, 8\.0.*tensorrt"):
        compile_here(simple, EngineOptions(compute_capabilities=("9.0",)))


def test_turing_is_refused_by_the_node_and_with_what_to_do(simple: Path) -> None:
    with pytest.raises(EngineError, match=r"branches\.0/logits.*Turing.*leave out compute capability 7\.5"):
        compile_here(simple, EngineOptions(compute_capabilities=("7.5",)))


def test_too_little_workspace_says_what_to_raise(tmp_path: Path) -> None:
    write_graph(dataclasses.replace(SMALL, dim=256, heads=4, head_dim=64), "stacked", "fp32", tmp_path / "graph")
    with pytest.raises(EngineError, match="give more than --engine workspace_mib=1"):
        compile_here(tmp_path / "graph", EngineOptions(workspace_mib=1), max_batch=4096)


def test_what_progress_raises_stops_the_build(tmp_path: Path) -> None:
    require_rtx()
    write_graph(SMALL, "stacked", "fp32", tmp_path / "graph")
    phases: list[str] = []

    def stop(phase: str) -> None:
        phases.append(phase)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tensorrt_rtx.compile_model(tmp_path / "graph", 4, EngineOptions(), stop)
    assert len(phases) == 1
    assert not (tmp_path / "graph/model.engine").exists()
    tensorrt_rtx.compile_model(tmp_path / "graph", 4, EngineOptions(), phases.append)
    assert all(phase.startswith("engine: ") for phase in phases)
    assert len(phases) > 2


INTERRUPTED = """
import signal, sys, threading
from pathlib import Path
from paraexport.targets.compilation import EngineOptions
from tests.targets.engines import tensorrt_rtx

signal.signal(signal.SIGINT, signal.default_int_handler)
timers = []

def interrupt_later(phase):
    if phase == "engine: building engine from subgraph" and not timers:
        timers.append(threading.Timer(0.1, signal.pthread_kill, [threading.main_thread().ident, signal.SIGINT]))
        timers[0].start()

try:
    tensorrt_rtx.compile_model(Path(sys.argv[1]), 4, EngineOptions(), interrupt_later)
except KeyboardInterrupt:
    print("interrupted")
"""
"""It runs in a process of its own: a signal that comes late must not end the process of the tests."""


def test_a_signal_stops_the_build_while_tensorrt_works(tmp_path: Path) -> None:
    require_rtx()
    write_graph(dataclasses.replace(SMALL, branches=8), "branches", "fp32", tmp_path / "graph")
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, tmp_path / "graph"],
        capture_output=True, text=True, timeout=120, check=False, cwd=ROOT,
    )  # fmt: skip
    assert (done.stdout, done.returncode) == ("interrupted\n", 0), done.stderr
    assert not (tmp_path / "graph/model.engine").exists()


@pytest.mark.parametrize("target", ["onnxruntime", "openvino", "tensorrt-rtx"])
def test_an_option_that_the_target_does_not_have_is_refused(target: str) -> None:
    with pytest.raises(InputError, match=r"the target has no aux_streams.*give --target tensorrt"):
        Options(target=target, engine=EngineOptions(aux_streams=2))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (EngineOptions(profiles=(Profile(1, 8, 65),)), "--profile 1:8:65.*1:8:65 goes beyond 64"),
        (EngineOptions(profiles=(Profile(1, 8, 63),)), "no profile accepts a batch of 64"),
        (EngineOptions(workspace_mib=0), "workspace_mib.*at least 1"),
        (EngineOptions(optimization_level=6), "optimization_level.*at most 5"),
    ],
)
def test_an_impossible_option_is_refused(options: EngineOptions, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Options(target="tensorrt-rtx", engine=options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tf32": "false"}, r"\$\.tf32"),
        ({"workspace_mib": 0.5}, r"\$\.workspace_mib"),
        ({"workspace_mib": "512"}, r"\$\.workspace_mib"),
        ({"workspace_mib": True}, r"\$\.workspace_mib"),
        ({"compute_capabilities": "8.9"}, r"\$\.compute_capabilities"),
        ({"compute_capabilities": (8.9,)}, r"\$\.compute_capabilities\[0\]"),
        ({"profiles": Profile(1, 8, 64)}, r"\$\.profiles"),
        ({"profiles": ((1, 8, 64),)}, r"\$\.profiles\[0\]"),
        ({"profiles": (Profile(1, 7.5, 64),)}, r"\$\.profiles\[0\]\.opt"),  # type: ignore[arg-type]
    ],
)
def test_in_python_an_option_of_the_wrong_type_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=f"EngineOptions: an option has the wrong type: Expected .*, got .*{words}"):
        Options(target="tensorrt-rtx", engine=EngineOptions(**options))


def test_in_python_a_dictionary_is_no_engine_options() -> None:
    with pytest.raises(InputError, match=r"expected paraexport\.EngineOptions, got dict"):
        Options(target="tensorrt-rtx", engine={"tf32": True})  # type: ignore[arg-type]


def test_every_engine_option_belongs_to_some_target() -> None:
    assert {field.name for field in dataclasses.fields(EngineOptions)} == RTX.options | TENSORRT.options


def test_a_simple_build_has_no_warnings(simple: Path) -> None:
    require_rtx()
    assert tensorrt_rtx.compile_model(simple, 4, EngineOptions(), silent).warnings == ()
