"""`make gpu-check` says by name what it skips, and does not call a run in which nothing ran a success."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks import gpu_check, gpu_memory
from paraexport.targets.trt.device import find_device


def test_without_time_everything_is_skipped_by_name_and_the_exit_code_is_3(tmp_path: Path) -> None:
    done = CliRunner().invoke(gpu_check.main, ["-o", str(tmp_path), "--seconds", "0"])
    assert done.exit_code == 3
    assert f"nothing could run: {find_device()}" in done.stderr
    with (tmp_path / "gpu.csv").open(newline="") as file:
        found = [*csv.DictReader(file)]
    assert all(row["note"].startswith("skipped: ") and row["passed"] == "" for row in found)
    judged = [line for line in done.stdout.splitlines() if line.startswith("not run: ")]
    assert {line.split(": ")[1] for line in judged} >= {"tensorrt, stacked", "tensorrt-rtx, stacked"}
    page = (tmp_path / "gpu.md").read_text()
    assert all(f"- {line}" in page for line in judged)
    assert "No ceilings: PyTorch has no CUDA here." in page
    assert "Left out:" in page
    assert "- PyTorch has no CUDA here: branches: torch eager, fp16, L = 1, M = 2;" in page
    contestants = {row["contestant"] for row in found}
    assert {"tensorrt, stacked", "tensorrt-rtx, branches", "torch eager"} <= contestants
    assert {int(row["branches"]) for row in found if row["part"] == "branches"} == {1, 2, 4, 8, 16, 32}
    assert {row["precision"] for row in found if row["part"] == "parity"} == {"fp32", "fp16", "bf16", "int8"}


def test_a_step_is_not_begun_where_it_may_take_longer_than_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("benchmarks.gpu_check.time.monotonic", lambda: now[0])
    clock = gpu_check.Clock(100)
    assert clock.refusal("torch.compile") == ""
    with clock.step("torch.compile"):
        now[0] = 30.0
    assert clock.refusal("torch.compile") == ""
    now[0] = 41.0
    assert clock.refusal("torch.compile") == "no time left: 59 s, and torch.compile took up to 30 s"
    assert clock.refusal("tensorrt") == ""
    now[0] = 101.0
    assert clock.refusal("tensorrt") == "no time left"


def test_memory_of_a_gpu_that_is_not_there_is_unknown_and_not_0() -> None:
    if not isinstance(find_device(), str):
        pytest.skip("there is a GPU here")
    assert gpu_memory.in_use_bytes() is None
    assert gpu_memory.since(None) is None
