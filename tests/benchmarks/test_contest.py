"""The benchmark scripts run, count and compare correctly, on a model so small that its times mean nothing."""

import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks import operators, peers, scaling
from benchmarks.harness import pages, worker
from benchmarks.harness.contest import QUICK, Contestant, Row, compete, with_comparisons, with_timing
from benchmarks.harness.machine import describe
from benchmarks.harness.subjects import PRODUCT, Subject, prepare, prepare_product
from benchmarks.int8 import peers as int8_peers
from benchmarks.scaling import sizes
from paraexport.model.spec import Spec
from paraexport.timing.contest import Burst, Timing

SPEC = Spec(
    image_size=(8, 8), channels=1, classes=3, patch_size=(4, 4), dim=8, branches=2, depth=1, heads=2, head_dim=4,
    mlp_dim=16, residual="normalized",
)  # fmt: skip
RULES = dataclasses.replace(QUICK, rounds=1, burst_s=0.001, attempts=1)
EAGER = Contestant("eager", "peer", "torch", "branches")
FOLDED = Contestant("folded", "ours", "onnxruntime", "folded")
OPENVINO = Contestant("stacked", "ours", "openvino", "stacked")
LARGE = Contestant("large", "peak", "onnxruntime", PRODUCT)
BATCH, PRODUCT_SIZE = 2, 64


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    graphs = ["branches", "plain", "optimized", "folded", "stacked"]
    return prepare(SPEC, tmp_path_factory.mktemp("subjects") / "small", [BATCH], graphs)


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return prepare_product(PRODUCT_SIZE, tmp_path_factory.mktemp("products") / "small")


def test_a_contest_counts_checks_and_compares_and_a_missing_library_is_a_row(
    subject: Subject, product: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "openvino.py").write_text("raise ImportError('No module named openvino')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    rows = compete(
        [EAGER, FOLDED, OPENVINO, LARGE], subject, product, batch=BATCH, rules=RULES, progress=lambda _: None
    )
    eager, folded, stacked, large = rows
    assert stacked.latency_ms is None
    assert stacked.note.startswith("not installed: ")
    assert [row.latency_ms is not None for row in (eager, folded, large)] == [True] * 3
    tokens, dim = 5, 8
    layer = 4 * tokens * dim * dim + 2 * tokens * tokens * dim + 2 * tokens * dim * 16
    assert eager.gflop == pytest.approx(2e-9 * BATCH * (4 * 16 * dim + 2 * layer + dim * 3))
    assert large.gflop == pytest.approx(2e-9 * PRODUCT_SIZE**3)
    assert large.share_of_peak == 1
    assert eager.error_vs_float32 == 0
    for row in (eager, folded, large):
        assert row.error_vs_float64 is not None
        assert 0 < row.error_vs_float64 < 1e-5


def test_every_graph_of_the_peers_is_prepared_and_answers_as_pytorch_does(subject: Subject) -> None:
    assert subject.failed == {}
    for graph in ("branches", "plain", "optimized", "folded", "stacked"):
        _, opened = worker.open_model("onnxruntime", subject.folder, graph, BATCH, 1)
        assert 0 < opened.error_vs_float64 < 1e-5
    assert subject.multiply_adds["plain"] == subject.multiply_adds["branches"] > subject.multiply_adds["folded"]
    assert "SkipLayerNormalization" in subject.notes["optimized"]


def test_a_wrong_answer_shows_as_its_error() -> None:
    expected = np.array([[1.0, -4.0]])
    assert worker.relative_error(np.array([[1.0, -3.0]], np.float32), expected) == 0.25
    with pytest.raises(ValueError, match="finite"):
        worker.relative_error(np.array([[np.nan, 1]], np.float32), expected)
    with pytest.raises(ValueError, match=r"expected finite \(1, 2\)"):
        worker.relative_error(np.array([1.0, 2.0], np.float32), expected)


def row(name: str, family: str, latency_ms: float | None = None, gflop: float = 1.0) -> Row:
    empty = Row(2, 1, 1, name, family, "onnxruntime", "folded", gflop=gflop)  # type: ignore[arg-type]
    return empty if latency_ms is None else with_timing(empty, Timing({1: (Burst((latency_ms,), 0.0),)}), RULES)


def test_a_latency_is_the_median_of_the_medians_of_the_bursts() -> None:
    bursts = [Burst((9, 1, 2), 0.5), Burst((4, 4, 4), 0.0), Burst((3, 3, 30, 3), 0.1), Burst((5, 6, 5), None)]
    facts = {"open_s": 0.5, "error_vs_float32": 0.25, "error_vs_float64": 0.125}
    timing = Timing({1: (*bursts, Burst((8, 8, 8), 0.2))}, facts=facts)
    measured = with_timing(row("a", "ours", gflop=7.0), timing)
    assert (measured.quartile_1_ms, measured.latency_ms, measured.quartile_3_ms) == (3, 4, 5)
    assert (measured.fastest_ms, measured.rounds, measured.calls_per_burst) == (1, 5, 3)
    assert measured.gflop_per_s == pytest.approx(7 / 4e-3)
    assert measured.other_cpus == pytest.approx(0.2)
    assert (measured.open_s, measured.error_vs_float32, measured.error_vs_float64) == (0.5, 0.25, 0.125)
    assert measured.note == "unstable"


def test_a_contestant_that_fails_keeps_its_reason() -> None:
    measured = with_timing(row("a", "ours"), Timing({}, "out of memory"))
    assert (measured.latency_ms, measured.note) == (None, "out of memory")


def test_rows_are_compared_with_the_best_peer_and_the_fastest_product() -> None:
    rows = [row("slow", "peer", 8), row("best", "peer", 6), row("broken", "peer"), row("ours", "ours", 3)]
    peaks = [row("peak", "peak", 1), row("other peak", "peak", 2)]
    got = with_comparisons(rows + peaks)
    assert [compared.speedup for compared in got] == [0.75, 1, None, 2, None, None]
    assert [compared.share_of_peak for compared in got] == pytest.approx([1 / 8, 1 / 6, None, 1 / 3, 1, 1 / 2])


def test_sizes_of_the_sweeps() -> None:
    assert sizes((1, 2, 4), 8) == [(1, 2), (2, 2), (4, 2), (8, 1), (2, 4), (1, 8)]


def test_results_are_written_with_their_machine_and_failed_rows(tmp_path: Path) -> None:
    rows = [
        row("best", "peer", 6),
        dataclasses.replace(row("gone", "peer"), note="not installed: x"),
        row("a", "ours", 3),
    ]
    header = pages.Header("python -m benchmarks.peers", describe(), RULES, 2, "small", 1.0)
    pages.write(tmp_path, "peers", with_comparisons(rows), header)
    with (tmp_path / "peers.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert [(line["contestant"], line["latency_ms"], line["note"]) for line in read] == [
        ("best", "6", ""), ("gone", "", "not installed: x"), ("a", "3", ""),
    ]  # fmt: skip
    assert '"onnxruntime"' in (tmp_path / "peers.json").read_text()
    table = pages.table(with_comparisons(rows)).splitlines()
    (gone,) = (line for line in table if "gone" in line)
    assert "not installed: x" in gone
    (ours,) = (line for line in table if line.startswith("| a "))
    assert "2.00" in ours


def test_pictures_are_drawn_with_the_failed_rows(tmp_path: Path) -> None:
    from PIL import Image

    from benchmarks.harness.pictures import draw_peers, draw_scaling

    rows = with_comparisons(
        [row("best", "peer", 6), dataclasses.replace(row("gone", "peer"), note="not installed"), row("a", "ours", 3)]
    )
    header = pages.Header("python -m benchmarks.peers", describe(), RULES, 2, "small", 1.0)
    draw_peers(rows, header, tmp_path)
    draw_scaling(rows, header, tmp_path, depth=1, parameters=2)
    for name in ("peers", "scaling"):
        with Image.open(tmp_path / f"{name}.png") as image:
            assert len(image.getcolors(1 << 20) or []) > 50
        assert "</svg>" in (tmp_path / f"{name}.svg").read_text()


def test_the_profile_adds_up_and_knows_its_products(subject: Subject) -> None:
    images = np.load(subject.folder / f"inputs-{BATCH}.npy")
    spent = operators.profile_onnxruntime(subject.folder / "plain/model.onnx", images, 1)
    assert spent["LayerNormalization"] > 0
    assert any(spent.get(name, 0) > 0 for name in operators.PRODUCTS)
    assert spent[operators.BETWEEN] >= 0


def test_peers_are_those_of_the_table() -> None:
    assert {contestant.family for contestant in peers.CONTESTANTS} == {"peer", "ours", "peak"}
    assert {contestant.runner for contestant in (*peers.CONTESTANTS, *int8_peers.CONTESTANTS)} == set(worker.OPENERS)
    assert len({contestant.name for contestant in peers.CONTESTANTS}) == len(peers.CONTESTANTS)


def test_the_script_runs_from_its_command_line_to_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "CONTESTANTS", (EAGER, FOLDED))
    command = ["--branches", "1", "--layers", "1", "--rounds", "1", "--quick", "-o", str(tmp_path)]
    done = CliRunner().invoke(scaling.main, command, catch_exceptions=False)
    assert done.exit_code == 0
    assert "L = 1, M = 2, batch 1" in done.stdout
    assert "round 1 of 1" in done.stderr
    with (tmp_path / "scaling.csv").open(newline="") as file:
        lines = [line for line in csv.DictReader(file) if float(line["latency_ms"]) > 0]
    measured = [(line["depth"], line["contestant"]) for line in lines]
    assert measured == [
        ("2", "eager"),
        ("2", "folded"),
        ("1", "eager"),
        ("1", "folded"),
    ]
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        f"scaling.{end}" for end in ("csv", "json", "md", "png", "svg")
    ]
