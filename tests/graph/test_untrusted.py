"""Damaged and hostile ONNX files are refused in one line, and each refusal has its own remedy."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import AttributeProto, helper, numpy_helper

from paraexport.errors import InputError
from paraexport.graph import inspection, untrusted
from paraexport.optimizer import requirements
from paraexport.optimizer.rewriting import optimize_here
from paraexport.system.memory_bound import memory_bound
from tests.optimizer.test_optimize import Edit, answers, node, nothing_to_do, plain, saved

Read = Callable[[Path], object]
BOTH: dict[str, Read] = {"optimize": requirements.read, "inspect": inspection.read}
MARK = "!mark!"


def refusal(read: Read, path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read(path)
    line = str(caught.value)
    assert caught.value.exit_code == 2
    assert "\n" not in line
    return line


# Damaged messages.


def unknown_data_type(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].data_type = 99


def unknown_type_of_a_value(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = 77


def short_buffer(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].raw_data = model.graph.initializer[0].raw_data[:-1]


def numbers_missing(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].ClearField("raw_data")
    model.graph.initializer[0].float_data.extend([1.0] * 5)


def huge_shape(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[:] = [2**40, 2**40]


def negative_shape(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[0] = -48


def unknown_value(model: onnx.ModelProto) -> None:
    model.graph.node[1].input[0] = "nobody's"


def cycle(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = "logits"


def twice(model: onnx.ModelProto) -> None:
    model.graph.node[1].output[0] = "flat"


def marked(model: onnx.ModelProto) -> None:
    model.graph.node[1].name = MARK


def marked_axis(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = MARK


def marked_operator(model: onnx.ModelProto) -> None:
    model.graph.node[1].op_type = MARK


DAMAGED: dict[str, tuple[Edit, str]] = {
    "data type": (unknown_data_type, "weight: 99 is not a data type"),
    "type of a value": (unknown_type_of_a_value, "77 is not a data type"),
    "short": (short_buffer, "its shape [48, 48] has 2304 elements, but its data has 2303.75"),
    "missing": (numbers_missing, "its shape [48, 48] has 2304 elements, but its data has 5"),
    "huge": (huge_shape, "[1099511627776, 1099511627776] is not a valid shape"),
    "negative": (negative_shape, "[-48, 48] is not a valid shape"),
    "unknown value": (unknown_value, "the_Gemm: it reads nobody's, which no earlier node computes"),
    "cycle": (cycle, "the_Flatten: it reads logits, which no earlier node computes"),
    "twice": (twice, "the_Gemm: it computes flat, but another node computes it too"),
    "bytes": (marked, "is b'\\xffmark!', not text"),
    "bytes on an axis": (marked_axis, "a dim_param is b'\\xffmark!', not text"),
    "bytes for an operator": (marked_operator, "an op_type is b'\\xffmark!', not text"),
}


@pytest.mark.parametrize("command", BOTH)
@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_message_is_refused_with_what_is_wrong(kind: str, command: str, tmp_path: Path) -> None:
    edit, words = DAMAGED[kind]
    path = saved(tmp_path, nothing_to_do(), edit)
    path.write_bytes(path.read_bytes().replace(MARK.encode(), b"\xff" + MARK.encode()[1:]))
    line = refusal(BOTH[command], path)
    assert line.startswith(f"{path}: not valid ONNX (got ")
    assert words.replace("an op_type", "a op_type") in line


def test_a_reshape_that_cannot_be_is_refused(tmp_path: Path) -> None:
    nodes = [node("Flatten", "images", "flat"), node("Reshape", "flat shape", "logits")]
    path = saved(tmp_path, plain(nodes, shape=np.array([-1, -1])))
    assert "not valid ONNX (got" in refusal(requirements.read, path)
    assert isinstance(inspection.read(path), object)


@pytest.mark.parametrize("command", BOTH)
@pytest.mark.parametrize("content", [b"", b"\0" * 4096, b"model: a text\n", b"\x08\x07", b"\xff" * 100])
def test_what_is_no_model_is_refused(content: bytes, command: str, tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(content)
    assert f"{tmp_path / 'a.onnx'}: not an ONNX model" in refusal(BOTH[command], tmp_path / "a.onnx")


@pytest.mark.parametrize("command", BOTH)
def test_four_gigabytes_are_refused_unread(command: str, tmp_path: Path) -> None:
    with (tmp_path / "a.onnx").open("wb") as file:
        file.truncate(2**32)
    assert "expected at most 2147483647 bytes" in refusal(BOTH[command], tmp_path / "a.onnx")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
@pytest.mark.parametrize("command", BOTH)
def test_pipes_devices_and_folders_are_no_models(command: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.onnx")
    (tmp_path / "b.onnx").symlink_to("/dev/zero")
    (tmp_path / "c.onnx").mkdir()
    (tmp_path / "d.onnx").symlink_to("d.onnx")
    for name, got in (
        ("a", "a device or a pipe"),
        ("b", "a device or a pipe"),
        ("c", "a folder"),
        ("d", "no such file"),
    ):
        assert got in refusal(BOTH[command], tmp_path / f"{name}.onnx")


def recursive(model: onnx.ModelProto) -> None:
    for name, other in (("A", "B"), ("B", "A")):
        body = [helper.make_node(other, ["x"], ["y"], domain="own")]
        model.functions.append(helper.make_function("own", name, ["x"], ["y"], body, [helper.make_opsetid("own", 1)]))
    model.opset_import.append(helper.make_opsetid("own", 1))
    model.graph.node.append(helper.make_node("A", ["logits"], ["z"], domain="own"))


def deep(model: onnx.ModelProto) -> None:
    graph = helper.make_graph([helper.make_node("Relu", ["logits"], ["y"])], "g", [], [])
    for _ in range(25):
        outer = onnx.GraphProto(name="g")
        inside = outer.node.add(op_type="If", input=["yes"], output=["y"])
        inside.attribute.add(name="then_branch", type=AttributeProto.GRAPH).g.CopyFrom(graph)
        graph = outer
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    model.graph.node.add().CopyFrom(graph.node[0])


def newest_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 999


def later_version(model: onnx.ModelProto) -> None:
    model.ir_version = 99


def large_value(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 2**33]), "times"))
    model.graph.node.append(helper.make_node("Tile", ["logits", "times"], ["many"], name="the_Tile"))
    model.graph.output[0].name = "many"
    model.graph.output[0].type.tensor_type.shape.dim[1].Clear()


def sparse_weights(model: onnx.ModelProto) -> None:
    values = numpy_helper.from_array(np.ones(1, np.float32), "sparse")
    places = numpy_helper.from_array(np.zeros(1, np.int64), "places")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [5]))


def large_image(model: onnx.ModelProto) -> None:
    for axis in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        axis.dim_value = 2**20


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (recursive, "it defines its own functions (A, B)"),
        (deep, "If contains a subgraph"),
        (newest_opset, "it has opset 999, but onnx"),
        (later_version, "its IR version is too new"),
        (large_value, "it needs too much memory"),
        (sparse_weights, "sparse initializers are not supported (got sparse); store them as dense tensors"),
        (large_image, "an image of [1, 1048576, 1048576] has 1,099,511,627,776 numbers"),
    ],
)
def test_what_could_end_a_process_is_refused_first(edit: Edit, words: str, tmp_path: Path) -> None:
    assert words in refusal(requirements.read, saved(tmp_path, nothing_to_do(), edit))


# Weights in other files.


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    path = tmp_path / "model/in.onnx"
    onnx.save(nothing_to_do(), path, save_as_external_data=True, location="w.bin", size_threshold=0)
    return path


def moved_to(location: str) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        set_entry(path, "location", location)

    return edit


def set_entry(path: Path, key: str, value: str) -> None:
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == key:
                entry.value = value
    path.write_bytes(model.SerializeToString())


def linked(path: Path) -> None:
    (path.parent / "w.bin").rename(path.parent.parent / "w.bin")
    (path.parent / "w.bin").symlink_to(path.parent.parent / "w.bin")


WEIGHTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "outside": (moved_to("../w.bin"), "its weights are outside of its folder"),
    "absolute": (moved_to("/etc/passwd"), "its weights are outside of its folder"),
    "nowhere": (moved_to(""), "it does not name the file of its data"),
    "missing": (lambda path: (path.parent / "w.bin").unlink(), "got no such file"),
    "folder": (moved_to("."), "got a folder"),
    "link": (linked, "got a symbolic link"),
    "hard link": (lambda path: os.link(path.parent / "w.bin", path.parent / "x.bin"), "a file with 2 hard links"),
    "short": (lambda path: os.truncate(path.parent / "w.bin", 9215), "its weights are cut off (expected at least 9216"),
    "offset": (lambda path: set_entry(path, "offset", "-4096"), "its offset '-4096' is not a number of bytes"),
    "far": (lambda path: set_entry(path, "offset", str(2**62)), "its weights are cut off"),
    "length": (lambda path: set_entry(path, "length", "9999"), "its shape needs 9216 bytes, but its length is 9999"),
}


@pytest.mark.parametrize("kind", WEIGHTS)
def test_weights_that_are_not_a_file_beside_the_model_are_refused(kind: str, beside: Path) -> None:
    edit, words = WEIGHTS[kind]
    edit(beside)
    assert words in refusal(requirements.read, beside)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_in_place_of_weights_is_not_read(beside: Path) -> None:
    (beside.parent / "w.bin").unlink()
    os.mkfifo(beside.parent / "w.bin")
    assert "got a folder, a device or a pipe" in refusal(requirements.read, beside)


def test_inspect_works_without_the_weights_and_reports_it(beside: Path) -> None:
    (beside.parent / "w.bin").unlink()
    contents = inspection.read(beside)
    assert contents.summary.weights_bytes == 48 * 48 * 4
    assert f"{beside.parent / 'w.bin'}: no file of weights" in contents.missing


# Each refusal has its remedy.


def dims(model: onnx.ModelProto, *values: int | str | None) -> None:
    for axis, value in zip(model.graph.input[0].type.tensor_type.shape.dim, values, strict=False):
        axis.Clear()
        if isinstance(value, str):
            axis.dim_param = value
        elif value is not None:
            axis.dim_value = value


def test_an_old_opset_has_the_command_that_converts_it(tmp_path: Path) -> None:
    path = saved(tmp_path, plain([node("Flatten", "images", "logits")], opset=9))
    line = refusal(requirements.read, path)
    assert "it has opset 9, older than 13" in line
    assert "python -m onnxruntime.tools.update_onnx_opset --opset 13 IN OUT" in line


def test_free_sides_have_the_command_that_fixes_them(tmp_path: Path) -> None:
    path = saved(tmp_path, nothing_to_do(), lambda model: dims(model, "batch", 1, "height", "width"))
    line = refusal(requirements.read, path)
    assert "input images: height, width are free, besides the batch" in line
    assert "onnxruntime.tools.make_dynamic_shape_fixed --dim_param height --dim_value N IN OUT" in line


@pytest.mark.parametrize("size", [0, 1, 4])
def test_a_fixed_batch_has_the_export_that_frees_it(size: int, tmp_path: Path) -> None:
    line = refusal(requirements.read, saved(tmp_path, nothing_to_do(), lambda model: dims(model, size)))
    assert f"the batch is fixed to {size}" in line
    assert "dynamic_axes={'images': {0: 'batch'}}" in line
    assert ("0 means an empty batch, not a free one" in line) == (size == 0)


def test_every_refusal_has_a_remedy_of_its_own(tmp_path: Path) -> None:
    def two(model: onnx.ModelProto) -> None:
        dims(model, 3)
        model.opset_import[0].version = 12

    line = refusal(requirements.read, saved(tmp_path, plain([node("Flatten", "images", "logits")]), two))
    assert "update_onnx_opset" in line
    assert "dynamic_axes" in line


def two_branches() -> onnx.ModelProto:
    """A graph with two branches, whose products can be merged: images -> logits [batch, 48]."""
    random = np.random.default_rng(0)
    weights: dict[str, Any] = {name: random.standard_normal((8, 8)).astype(np.float32) for name in "abcd"}
    weights |= {"tokens": np.array([0, 6, 8]), "shift": weights["a"][0]}
    nodes = [node("Reshape", "images tokens", "x")]
    for one, other, number in (("a", "b", 0), ("c", "d", 1)):
        nodes += [
            helper.make_node("MatMul", ["x", one], [f"p{number}"], name=f"p{number}"),
            helper.make_node("Add", [f"p{number}", "shift"], [f"q{number}"], name=f"q{number}"),
            helper.make_node("Relu", [f"q{number}"], [f"r{number}"], name=f"r{number}"),
            helper.make_node("MatMul", [f"r{number}", other], [f"s{number}"], name=f"s{number}"),
        ]
    nodes += [node("Add", "s0 s1", "y"), node("Flatten", "y", "logits")]
    return plain(nodes, **weights)


@pytest.mark.parametrize("size", [-1, "N", None])
def test_a_free_batch_may_be_written_in_several_ways(size: int | str | None, tmp_path: Path) -> None:
    def edit(model: onnx.ModelProto) -> None:
        for value in (*model.graph.input, *model.graph.output):
            axis = value.type.tensor_type.shape.dim[0]
            axis.Clear()
            if isinstance(size, str):
                axis.dim_param = size
            elif size is not None:
                axis.dim_value = size
        del model.graph.value_info[:]

    source = saved(tmp_path, two_branches(), edit)
    done = optimize_here(source, tmp_path / "out.onnx")
    assert done.changed
    for batch in (1, 5):
        seen = np.random.default_rng(99).standard_normal((batch, 1, 6, 8))
        (expected,), (got,) = answers(source, seen), answers(done.output, seen)
        assert np.abs(expected - got).max() <= 1e-5 * np.abs(expected).max()


def fixed(model: onnx.ModelProto, *target: int) -> None:
    """Give the last Reshape this target."""
    model.graph.initializer.append(numpy_helper.from_array(np.array(target), "fixed"))
    model.graph.node.append(helper.make_node("Reshape", ["logits", "fixed"], ["out"], name="the_last"))
    model.graph.output[0].name = "out"
    model.graph.output[0].type.tensor_type.shape.dim[1].Clear()


@pytest.mark.parametrize("number", [1, 4])
def test_a_batch_that_a_reshape_holds_is_named_with_its_node(number: int, tmp_path: Path) -> None:
    source = saved(tmp_path, two_branches(), lambda model: fixed(model, number, 48))
    with pytest.raises(InputError) as caught:
        optimize_here(source, tmp_path / "out.onnx")
    line = str(caught.value)
    assert f"it runs with a batch of {number}, but not of 2; the target shape of the_last is [{number}, 48]" in line
    assert "use -1 or x.shape[0]" in line
    assert [*tmp_path.iterdir()] == [source]


def test_a_reshape_that_merges_the_images_is_refused(tmp_path: Path) -> None:
    source = saved(tmp_path, two_branches(), lambda model: fixed(model, 1, -1))
    with pytest.raises(InputError, match="output out has 1 rows for a batch of 2; the target shape of the_last is"):
        optimize_here(source, tmp_path / "out.onnx")


# Initializers that are also inputs.


def overridable(model: onnx.ModelProto) -> None:
    model.ir_version = 8
    tensor = model.graph.initializer[0]
    model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))


def test_an_initializer_that_a_caller_may_replace_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, nothing_to_do(), overridable)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_overridable_initializers()] == ["weight"], "as the runtime sees it"
    line = refusal(requirements.read, path)
    assert "weight: an initializer that callers can replace" in line
    assert "keep_initializers_as_inputs=False" in line
    assert inspection.read(path).summary.overridable == ("weight",)


def test_before_version_4_initializers_are_inputs_and_constants(tmp_path: Path) -> None:
    def edit(model: onnx.ModelProto) -> None:
        overridable(model)
        model.ir_version = 3

    path = saved(tmp_path, nothing_to_do(), edit)
    assert requirements.read(path).images.name == "images"
    assert inspection.read(path).summary.overridable == ()


@pytest.mark.skipif(os.name == "nt", reason="names of files are text there")
def test_names_of_files_need_not_be_text(tmp_path: Path) -> None:
    (folder := tmp_path / os.fsdecode(b"f\xff")).mkdir()
    source = saved(tmp_path, two_branches()).rename(folder / os.fsdecode(b"in\xff.onnx"))
    done = optimize_here(source, folder / os.fsdecode(b"out\xff.onnx"))
    assert done.changed
    assert inspection.read(done.output).summary.inputs[0].name == "images"


def shape_of_shapes() -> onnx.ModelProto:
    """A Reshape to 64 · 2^22 axes: its target is concatenated with itself again and again."""
    nodes = [helper.make_node("Concat", [f"s{step}"] * 2, [f"s{step + 1}"], axis=0) for step in range(22)]
    nodes += [node("Reshape", "images s22", "many"), node("Flatten", "images", "logits")]
    return plain(nodes, s0=np.ones(64, np.int64))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is bounded on Linux alone")
def test_a_small_file_cannot_take_all_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, shape_of_shapes())
    monkeypatch.setattr(untrusted, "most_memory", lambda _: 2**26)
    assert inspection.read(path).parts[0].activations is None
    words = r"reading it takes too much memory \(expected at most 67 MB for a file of its size\)"
    with pytest.raises(InputError, match=words), memory_bound(2**26, path):
        np.ones(2**25)
    assert np.ones(2**25).sum() == 2**25, "the bound is gone"
