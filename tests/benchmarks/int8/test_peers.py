"""The int8 benchmark runs and compares correctly, on a model so small that its numbers mean nothing."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from benchmarks.harness import worker
from benchmarks.harness.contest import Contestant
from benchmarks.harness.subjects import PLAIN, Recipe, Subject, prepare, seeded_model, with_sources
from benchmarks.int8 import accuracy, peers
from benchmarks.int8.accuracy import Accuracy, Case, LabelledImages, compare
from benchmarks.int8.recipes import DYNAMIC, MODELOPT, NNCF, PREPARED, STATIC, activation_products, checkpoint, recipes
from paraexport.model.spec import Preprocessing
from tests.benchmarks.test_contest import SPEC

BATCH = 2
ROW = Accuracy("model", "test", 4, "one", "peer", "onnxruntime", "graph", pytorch_correct=3)


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    folder = tmp_path_factory.mktemp("int8") / "small"
    return prepare(SPEC, folder, [BATCH], [STATIC, DYNAMIC, MODELOPT], recipes(sys.executable))


@pytest.mark.parametrize("graph", [STATIC, DYNAMIC])
def test_onnxruntimes_int8_graphs_are_close_to_pytorch(subject: Subject, graph: str) -> None:
    assert graph not in subject.failed
    assert subject.multiply_adds[graph] == subject.multiply_adds[PLAIN]
    _, opened = worker.open_model("onnxruntime", subject.folder, graph, BATCH, 1)
    assert 1e-5 < opened.error_vs_float64 < 0.1


def test_static_quantisation_leaves_products_of_activations_alone(subject: Subject) -> None:
    names = activation_products(subject.folder / PREPARED / "model.onnx")
    assert len(names) == 2 * SPEC.branches * SPEC.depth
    nodes = onnx.load(subject.folder / STATIC / "model.onnx").graph.node
    producers = {name: node.op_type for node in nodes for name in node.output}
    products = [node for node in nodes if node.op_type in ("MatMul", "Gemm")]
    for node in products:
        quantised = {producers.get(name) == "DequantizeLinear" for name in node.input[:2]}
        assert quantised == {node.name not in names}
    assert len(products) > len(names)


def test_a_tool_that_is_not_installed_is_a_row(subject: Subject) -> None:
    assert subject.failed[MODELOPT].startswith("not installed: ")


def test_nncf_is_opened_as_openvino_ir(tmp_path: Path) -> None:
    pytest.importorskip("nncf", reason="nncf is in the extra `bench`")
    pytest.importorskip("openvino")
    subject = prepare(SPEC, tmp_path / "small", [BATCH], [NNCF], recipes(sys.executable))
    assert subject.failed == {}
    _, opened = worker.open_model("openvino-ir", subject.folder, NNCF, BATCH, 1)
    assert 1e-5 < opened.error_vs_float64 < 0.2


def test_a_graph_whose_source_failed_has_its_reason(tmp_path: Path) -> None:
    def fail(*_: object) -> str:
        raise ValueError("broken\nsecond line")

    graphs = {"first": Recipe(fail), "second": Recipe(fail, "first"), "third": Recipe(fail, "second")}
    subject = prepare(SPEC, tmp_path / "small", [BATCH], ["third"], graphs)
    assert subject.failed == dict.fromkeys(graphs, "ValueError: broken")
    assert with_sources("third", graphs) == ["first", "second", "third"]


def test_agreement_and_errors_by_hand() -> None:
    expected = np.array([[1, 0], [0, 1], [2, 0], [0, 2]], np.float32)
    labels = np.array([0, 1, 0, 0])
    got = compare(ROW, expected + np.array([[0, 2], [0, 0], [0, 0], [0, 0]], np.float32), expected, labels)
    assert (got.correct, got.points_lost, got.differing, got.agreement) == (2, 25, 1, 75)
    assert got.largest_error == 2
    assert got.rms_error == pytest.approx((4 / 8) ** 0.5)
    lost = compare(ROW, np.full((4, 2), np.nan, np.float32), expected, labels)
    assert (lost.correct, lost.differing, lost.agreement) == (0, 4, 0)


def test_more_noises_are_other_images_with_the_same_labels() -> None:
    committed, repeated = accuracy.noisy_digits(
        Preprocessing(image_size=(32, 32), channels=1, resize=(32, 32), mean=(0.5,), std=(0.5,))
    )
    assert repeated.images.shape == (8 * len(committed.labels), 1, 32, 32)
    np.testing.assert_array_equal(np.sort(repeated.labels), np.sort(np.tile(committed.labels, 8)))
    assert len(np.unique(repeated.images.reshape(len(repeated.images), -1), axis=0)) == len(repeated.images)
    assert not (repeated.images[: len(committed.images)] == committed.images).all(axis=(1, 2, 3)).any()


def test_the_script_runs_from_its_command_line_to_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = checkpoint(seeded_model(SPEC), tmp_path)
    images = np.random.default_rng(0).standard_normal((5, 1, *SPEC.image_size), np.float32)
    np.save(tmp_path / "images.npy", images)
    case = Case("small", model, tmp_path / "images.npy", lambda _: [LabelledImages("five", images, np.zeros(5, int))])
    contestants = (
        peers.FLOAT32[0],
        Contestant("static", "peer", "onnxruntime", STATIC),
        Contestant("gone", "peer", "onnxruntime", MODELOPT),
    )
    monkeypatch.setattr(peers, "CONTESTANTS", contestants)
    monkeypatch.setattr(peers, "CASES", (case,))
    command = ["--branches", "1", "--depth", "1", "--batch", "1", "--rounds", "1", "--quick"]
    done = CliRunner().invoke(peers.main, [*command, "-o", str(tmp_path / "out")], catch_exceptions=False)
    assert done.exit_code == 0
    assert "not installed" in done.stdout
    with (tmp_path / "out/int8.csv").open(newline="") as file:
        plain, static, gone = csv.DictReader(file)
    assert (plain["family"], gone["latency_ms"], static["speedup"]) == ("scale", "", "1")
    with (tmp_path / "out/int8-accuracy.csv").open(newline="") as file:
        exact, quantised, missing = csv.DictReader(file)
    assert (exact["agreement"], missing["agreement"]) == ("100", "")
    assert float(exact["rms_error"]) < 1e-5 < float(quantised["rms_error"])
    page = (tmp_path / "out/int8.md").read_text()
    assert "small, five; PyTorch is right in" in page
    assert "L = 1, M = 1, batch 1" in page
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "int8-accuracy.csv", *(f"int8.{end}" for end in ("csv", "json", "md", "png", "svg")),
    ]  # fmt: skip


def test_ours_and_all_peers_take_part() -> None:
    graphs = {contestant.graph for contestant in peers.CONTESTANTS}
    assert graphs <= set(recipes(sys.executable))
    assert {contestant.family for contestant in peers.CONTESTANTS} == {"scale", "peer", "ours"}
    assert len({contestant.name for contestant in peers.CONTESTANTS}) == len(peers.CONTESTANTS)
