"""`paraexport optimize`: the table, the JSON, the same file where nothing is to do, and one line for each error."""

from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import helper

from paraexport.graph.refusal import Applied
from paraexport.optimizer import optimize
from paraexport.optimizer.rewriting import Optimized, optimize_here
from paraexport.rewrite import LAYOUTS
from paraexport.system import isolation
from tests.cli.conftest import Run
from tests.graph.test_untrusted import two_branches
from tests.optimizer.test_optimize import fixed_batch, nothing_to_do, saved
from tests.rewrite.graphs import SMALL, traced


def test_the_table_names_every_pass_and_what_to_do_next(run: Run, tmp_path: Path) -> None:
    source = saved(tmp_path, traced(SMALL))
    done = run("optimize", source, "-o", tmp_path / "out.onnx", "--layout", "stacked")
    assert done.code == 0, done.err
    assert done.err == "reading...\nrewriting...\nchecking...\nwriting...\n"
    lines = done.out.splitlines()
    rows = {line.split()[0]: line for line in lines if line}
    assert {"canonical", "norms", "offsets", "scales", "biases", "select", "absorb", "stack", "all"} <= rows.keys()
    nodes = len(traced(SMALL).graph.node)
    assert f"{nodes} -> {len(onnx.load(tmp_path / 'out.onnx').graph.node)}" in rows["all"]
    # Nine refusals of one kind are one line.
    (offsets_row,) = [line for line in lines if line.startswith("offsets") and "no other branch reads" in line]
    assert offsets_row.split()[1] == str(SMALL.branches * (2 * SMALL.depth - 1))
    assert "at most 1e-05, on 100 images" in rows["self-check:"]
    assert lines[-1] == f"next: paraexport inspect {tmp_path}/out.onnx"


def test_json_has_every_number(run: Run, tmp_path: Path) -> None:
    source = saved(tmp_path, traced(SMALL))
    told = run("optimize", source, "-o", tmp_path / "out.onnx", "--json", "-q").json
    assert (told["changed"], told["layout"], told["opset"]) == (True, "folded", {"before": 23, "after": 23})
    assert told["check"]["passed"] is True
    assert told["passes"][0]["name"] == "canonical"
    assert told["after"]["multiply_adds"] < told["before"]["multiply_adds"]
    for one, other in zip(told["passes"], told["passes"][1:], strict=False):
        assert one["after"] == other["before"]


def test_nothing_to_rewrite_is_said(run: Run, tmp_path: Path) -> None:
    source = saved(tmp_path, nothing_to_do())
    done = run("optimize", source, "-o", tmp_path / "out.onnx")
    assert done.code == 0
    assert done.out.startswith(f"nothing to improve in {source}")
    assert (tmp_path / "out.onnx").read_bytes() == source.read_bytes()


@pytest.mark.parametrize("content", [b"", b"junk", b"\x08\x07"])
def test_a_bad_file_is_one_line_and_exit_code_2(run: Run, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.onnx").write_bytes(content)
    done = run("optimize", tmp_path / "a.onnx", "-o", tmp_path / "out.onnx", "-q")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert done.err.startswith(f"error: {tmp_path / 'a.onnx'}: not an ONNX model")
    assert not (tmp_path / "out.onnx").exists()


def test_a_refusal_is_one_line_and_exit_code_2(run: Run, tmp_path: Path) -> None:
    source = saved(tmp_path, traced(SMALL), fixed_batch)
    done = run("optimize", source, "-o", tmp_path / "out.onnx", "--json")
    assert done.code == 2
    assert "the batch is fixed to 2" in done.json["error"]["what"]


def test_a_failed_check_is_exit_code_1_and_writes_nothing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def negated(graph: object) -> Applied:
        last = graph.outputs[0].producer()  # type: ignore[attr-defined]
        last.replace_input_with(1, last.inputs[0])
        return Applied("negated", 1)

    def here(*arguments: Any, warn: object, **options: Any) -> Optimized:
        """In this process, where the pass below is."""
        return optimize_here(*arguments, **options)

    monkeypatch.setattr(optimize, "optimize", here)
    monkeypatch.setitem(LAYOUTS, "folded", (*LAYOUTS["folded"], negated))
    source = saved(tmp_path, traced(SMALL))
    done = run("optimize", source, "-o", tmp_path / "out.onnx", "-q")
    assert done.code == 1
    assert "from the pass negated on" in done.err
    assert list(tmp_path.iterdir()) == [source]


def test_an_output_is_asked_for(run: Run, tmp_path: Path) -> None:
    done = run("optimize", tmp_path / "a.onnx")
    assert done.code == 2
    assert "--output" in done.err


def odd_split(model: onnx.ModelProto) -> None:
    """Three outputs where `num_outputs` is 2, on which onnx 1.23 ends the process."""
    model.graph.node.append(
        helper.make_node("Split", ["logits"], ["a", "b", "c"], name="the_Split", axis=1, num_outputs=2)
    )
    model.graph.output[0].name = "a"
    model.graph.output[0].type.tensor_type.shape.dim[1].Clear()


def test_a_library_that_crashes_is_one_line_and_leaves_nothing(run: Run, tmp_path: Path) -> None:
    source = saved(tmp_path, nothing_to_do(), odd_split)
    done = run("optimize", source, "-o", tmp_path / "new/out.onnx", "-q")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert done.err.startswith(f"error: {source}: ")
    assert [*tmp_path.iterdir()] == [source]


def test_a_crash_in_onnx_runtime_is_one_line_and_leaves_nothing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crashing = "import os, onnxruntime; onnxruntime.InferenceSession = lambda *_, **__: os.kill(os.getpid(), 11);"
    monkeypatch.setattr(isolation, "SERVING", f"{crashing}{isolation.SERVING}")
    source = saved(tmp_path, two_branches())
    done = run("optimize", source, "-o", tmp_path / "new/out.onnx", "-q")
    assert done.code == 2
    assert f"{source}: a library crashed while checking (got SIGSEGV); export it again" in done.err
    assert [*tmp_path.iterdir()] == [source]


def test_what_libraries_say_is_a_line_each_and_nothing_with_quiet(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = "import os, warnings; os.write(2, b'noise'); import onnxruntime; old = onnxruntime.InferenceSession;"
    warned = "(warnings.warn('two\\nlines'), old(*a, **k))[1]"
    noise += f"onnxruntime.InferenceSession = lambda *a, **k: {warned};"
    monkeypatch.setattr(isolation, "SERVING", f"{noise}{isolation.SERVING}")
    source = saved(tmp_path, two_branches())
    assert run("optimize", source, "-o", tmp_path / "a.onnx", "-q").err == ""
    lines = run("optimize", source, "-o", tmp_path / "b.onnx").err.splitlines()
    assert lines == ["reading...", "rewriting...", "checking...", "warning: two lines", "writing..."]
