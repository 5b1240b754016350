"""`bench` from the command line: rows, files and bad input. The times themselves are not tested."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

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
