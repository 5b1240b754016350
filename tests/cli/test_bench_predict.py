"""`bench --predict` from the command line: rows, files and bad input."""

from __future__ import annotations

import csv
import dataclasses
import functools
from pathlib import Path

import pytest

from paraexport.bench.predict import layouts, rows
from paraexport.bench.predict.runtimes import RUNTIMES, cpu
from paraexport.bundle import Bundle
from paraexport.errors import InputError, MissingError
from tests.cli.conftest import Run
from tests.conftest import DIGITS
from tests.trace.test_trace import small_spec

WRITE = functools.cache(layouts.write_layouts)


@pytest.fixture(autouse=True)
def _trace_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests with one spec share its graphs."""
    monkeypatch.setattr(rows, "write_layouts", WRITE)


def test_every_layout_on_every_device(run: Run, small_bundle: Bundle, tmp_path: Path) -> None:
    files = ("--csv", tmp_path / "rows.csv", "--markdown", tmp_path / "rows.md")
    done = run("bench", small_bundle.path, "--predict", "h200,cpu", "--batch", "1,64", "--threads", 1, "--json", *files)
    assert done.code == 0, done.err
    prediction = done.json["prediction"]
    found = [(row["device"], row["batch"], row["layout"]) for row in prediction["rows"]]
    names = ("branches", "folded", "stacked")
    assert found == [(name, batch, layout) for name in ("h200", "cpu") for batch in (1, 64) for layout in names]
    for row in prediction["rows"]:
        assert row["low_ms"] < row["latency_ms"] < row["high_ms"]
        assert row["images_per_s"] == pytest.approx(1e3 * row["batch"] / row["latency_ms"])
        assert row["this_bundle"] == (row["layout"] == small_bundle.manifest.layout)
    assert [device["name"] for device in prediction["devices"]] == ["h200", "cpu"]
    assert all(device["sources"] for device in prediction["devices"])
    assert "Nothing ran" in prediction["assumptions"][0]
    with (tmp_path / "rows.csv").open() as file:
        assert [line["layout"] for line in csv.DictReader(file)] == [row["layout"] for row in prediction["rows"]]
    assert (tmp_path / "rows.md").read_text().count("\n| ") == 2 + len(prediction["rows"])


def test_the_table_says_that_it_is_a_prediction(run: Run, small_bundle: Bundle) -> None:
    done = run("bench", small_bundle.path, "--predict", "orin")
    assert done.code == 0, done.err
    assert "Predicted latency of one call" in done.out
    assert "this bundle" in done.out
    assert "GPU: none was measured" in done.out + done.err


def test_without_a_spec_the_graph_itself_is_read(small_bundle: Bundle) -> None:
    """The graph gives the same multiply-adds as the one that is written for the spec."""
    every, of_spec = rows.layouts_of(small_bundle)
    own, of_graph = rows.layouts_of(without_spec(small_bundle))
    assert (len(every), own) == (3, (small_bundle.manifest.layout,))
    counts = [sum(kernel.multiply_adds for kernel in of(own[0], 4)) for of in (of_spec, of_graph)]
    assert counts[0] == counts[1] > 0


def test_unknown_shapes_are_an_error(small_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paraexport.graph.kernels.node_work", lambda node: None)
    _, kernels_of = rows.layouts_of(without_spec(small_bundle))
    with pytest.raises(InputError, match=r"model\.onnx: cannot predict this graph: the shapes at these nodes .* more"):
        kernels_of("folded", 1)


def test_a_precision_that_was_never_measured() -> None:
    with pytest.raises(InputError, match=r"--predict cpu: this precision .*expected fp32 or int8, got fp16"):
        rows.require_precision(cpu(RUNTIMES["openvino"], 1e11), "fp16")


def test_missing_libraries_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingError, match=r"--predict needs torch, onnx, onnx_ir, onnxscript .*pip install"):
        layouts.write_layouts(small_spec())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--predict", "b200"], "expected one or more of h200, h100, a100, l4, rtx4090, rtx5090, orin, cpu, got b200"),
        (["--predict", ""], "got an empty name"),
        (["--predict", "h200", "--batch", "0"], "invalid batch sizes"),
        (["--predict", "h200", "--against", "torch", "--checkpoint", str(DIGITS)], "with --against, --checkpoint"),
        (["--predict", "h200", "--sweep-branches"], "does not go together with --sweep-branches"),
        (["--predict", "h200", "--mode", "throughput"], "does not go together with --mode throughput"),
        (["--predict", "h200", "--percentile", "99"], "does not go together with --percentile"),
        (["--predict", "h200", "--csv", "/dev/null/x.csv"], "cannot be written"),
    ],
)
def test_bad_input(run: Run, small_bundle: Bundle, arguments: list[str], message: str) -> None:
    done = run("bench", small_bundle.path, *arguments)
    assert done.code == 2
    assert message in " ".join(done.err.split())
    assert done.err.count("error:") == 1


def without_spec(bundle: Bundle) -> Bundle:
    return dataclasses.replace(bundle, manifest=dataclasses.replace(bundle.manifest, spec=None))
