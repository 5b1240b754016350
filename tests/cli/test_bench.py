"""`bench` from the command line: rows, files and bad input. The times themselves are not tested."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import paraexport
from paraexport.bench import bench
from paraexport.bundle import Bundle
from tests.cli.conftest import Run
from tests.conftest import DIGITS


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three short windows."""
    monkeypatch.setattr(bench.Settings, "most_windows", 3)
    original = bench.Settings.rules

    def quick(settings: bench.Settings) -> Any:
        import dataclasses

        return dataclasses.replace(original(settings), rounds=3, burst_s=0.01)

    monkeypatch.setattr(bench.Settings, "rules", quick)


def test_rows_of_bundles_and_peers(run: Run, small: Path, small_bundle: Bundle, tmp_path: Path) -> None:
    done = run(
        "bench", small_bundle.path, small_bundle.path, "--against", "torch", "--checkpoint", small, "--batch", "1-4*2",
        "--json", "--csv", tmp_path / "rows.csv", "--markdown", tmp_path / "rows.md", "--threads", "1",
    )  # fmt: skip
    assert done.code == 0, done.err
    rows = done.json["rows"]
    assert [(row["name"], row["batch"]) for row in rows] == [
        (name, batch) for batch in (1, 2, 4) for name in ("small.bundle", "small.bundle (2)", "torch")
    ]
    for row in rows:
        assert row["mean_ms"] > 0
        assert row["percentiles_ms"]["50"] > 0
        assert row["after_rest_ms"] > 0
        assert row["peak_memory_bytes"] > 2**24
        assert row["threads"] == 1
    assert rows[0]["ratio"] is None
    assert all(row["ratio"] > 0 for row in rows if row["name"] != "small.bundle")
    assert rows[0]["size_bytes"] == (small_bundle.path / "model.onnx").stat().st_size
    with (tmp_path / "rows.csv").open() as file:
        assert [line["name"] for line in csv.DictReader(file)] == [row["name"] for row in rows]
    assert (tmp_path / "rows.md").read_text().count("\n| ") == 2 + len(rows)


def test_the_peer_reads_the_checkpoint_as_the_build_did(run: Run, small: Path, tmp_path: Path) -> None:
    """With its renames and its number of branches; the bundle records both."""
    content = torch.load(small, weights_only=True)
    weights = {name.replace("branches.", "limbs."): tensor for name, tensor in content["state_dict"].items()}
    torch.save({**content, "state_dict": weights}, tmp_path / "renamed.pt")
    built = paraexport.build(tmp_path / "renamed.pt", tmp_path / "m.bundle", rename={"limbs": "branches"}, branches=1)
    peer = ("--against", "torch", "--checkpoint", tmp_path / "renamed.pt")
    done = run("bench", built.path, *peer, "--batch", "1", "--json")
    assert [row["mean_ms"] is not None for row in done.json["rows"]] == [True, True], done.json["rows"]


def test_throughput(run: Run, small_bundle: Bundle) -> None:
    done = run("bench", small_bundle.path, "--mode", "throughput", "--streams", "3", "--batch", "2", "--json")
    (row,) = done.json["rows"]
    assert row["images_per_s"] > 0
    assert row["after_rest_ms"] is None


def test_a_contestant_that_fails_keeps_its_reason(run: Run, small_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "junk.pt").write_bytes(b"junk")
    done = run(
        "bench", small_bundle.path, "--against", "torch", "--checkpoint", tmp_path / "junk.pt", "--batch", "1", "--json"
    )
    assert done.code == 0
    assert [row["note"].partition(":")[0] for row in done.json["rows"]][1] == "did not run"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch", "6"], "the batch is larger than the bundle takes"),
        (["--batch", "none"], "invalid batch sizes"),
        (["--against", "torch"], "--against and --checkpoint belong together"),
        (["--checkpoint", str(DIGITS)], "--against and --checkpoint belong together"),
        (["--against", "jax", "--checkpoint", str(DIGITS)], "unknown name"),
        (["--against", "torch", "--checkpoint", "none.pt"], "none.pt"),
        (["--streams", "2"], "--streams needs --mode throughput"),
        (["--threads", "0"], "threads"),
        (["--csv", "/dev/null/x.csv"], "cannot be written"),
    ],
)
def test_bad_input(run: Run, small_bundle: Bundle, arguments: list[str], message: str) -> None:
    done = run("bench", small_bundle.path, *arguments)
    assert done.code == 2
    assert message in done.err
    assert done.err.count("error:") == 1


def test_other_models_are_refused(run: Run, small_bundle: Bundle, digits: Bundle, tmp_path: Path) -> None:
    done = run("bench", small_bundle.path, digits.path)
    assert done.code == 2
    assert "the bundles hold different models" in done.err
    assert run("bench", tmp_path / "none.bundle").code == 2


@pytest.fixture(scope="module")
def several(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle with 1, 2 and all 3 branches."""
    output = tmp_path_factory.mktemp("several") / "several.bundle"
    return paraexport.build(small, output, branches_at_load="all", layout="stacked")


def test_a_sweep_over_the_first_branches(run: Run, several: Bundle, tmp_path: Path) -> None:
    """Every image has the class that one branch gives it, so one branch is enough, and all are worse."""
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 12, 1), np.uint8)
    prepared = paraexport.load(several.path).preprocess([*images])
    answers = {count: paraexport.load(several.path, branches=count)(prepared).argmax(1) for count in (1, 2, 3)}
    np.savez(tmp_path / "data.npz", images=images, labels=answers[1])
    done = run("bench", several.path, "--sweep-branches", "--data", tmp_path / "data.npz", "--json", "--threads", 1)
    assert done.code == 0, done.err
    rows = done.json["rows"]
    assert [(row["name"], row["branches"], row["batch"]) for row in rows] == [
        ("1 branch", 1, 1), ("2 branches", 2, 1), ("3 branches", 3, 1)
    ]  # fmt: skip
    assert all(row["mean_ms"] > 0 for row in rows)
    assert [row["ratio"] is None for row in rows] == [False, False, True]
    for row in rows:
        count = row["branches"]
        assert row["accuracy"] == pytest.approx(100 * (answers[count] == answers[1]).mean())
        assert row["agreement"] == pytest.approx(100 * (answers[count] == answers[3]).mean())
    assert rows[0]["size_bytes"] < rows[2]["size_bytes"]
    assert (done.json["enough"], done.json["max_drop"]) == (1, 0.5)


def test_a_sweep_prints_how_many_are_enough(run: Run, several: Bundle) -> None:
    """Without --data, agreement is that of the build, on images without labels."""
    done = run("bench", several.path, "--sweep-branches", "--max-drop", 100)
    assert done.code == 0, done.err
    assert "beside all branches" in done.out
    assert "1 branch of 3 is enough (at most 100 % other answers)" in done.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "x"], "--data and --max-drop need --sweep-branches"),
        (["--max-drop", "1"], "--data and --max-drop need --sweep-branches"),
        (["--sweep-branches", "--against", "torch"], "--sweep-branches takes one bundle"),
        (["--sweep-branches", "--checkpoint", "x"], "--sweep-branches takes one bundle"),
        (["--module", "x.py:make"], "--module needs --against"),
        (["--sweep-branches"], "no models with fewer branches; build it with --branches-at-load all"),
    ],
)
def test_bad_input_of_a_sweep(run: Run, small_bundle: Bundle, arguments: list[str], message: str) -> None:
    done = run("bench", small_bundle.path, *arguments)
    assert done.code == 2
    assert message in done.err
    assert done.err.count("error:") == 1


def test_a_failed_run_keeps_an_earlier_csv(run: Run, small_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("earlier")
    assert run("bench", small_bundle.path, "--sweep-branches", "--csv", tmp_path / "rows.csv").code == 2
    assert (tmp_path / "rows.csv").read_text() == "earlier"


def test_a_sweep_of_values_compares_only_times(run: Run, small: Path, tmp_path: Path) -> None:
    spec = {"scores": "regression"}
    built = paraexport.build(small, tmp_path / "values.bundle", branches_at_load=(1,), spec=spec)
    done = run("bench", built.path, "--sweep-branches", "--batch", 1)
    assert (done.code, "only the times are compared" in done.out) == (0, True)
    refused = run("bench", built.path, "--sweep-branches", "--data", tmp_path)
    assert (refused.code, "there is no accuracy" in refused.err) == (2, True)
