"""`make gpu-check` says by name what it skips, and does not call a run in which nothing ran a success."""

from __future__ import annotations

import csv
from pathlib import Path

from click.testing import CliRunner

from benchmarks import gpu_check
from paraexport.targets.trt.device import find_device


def test_without_time_everything_is_skipped_by_name_and_the_exit_code_is_3(tmp_path: Path) -> None:
    done = CliRunner().invoke(gpu_check.main, ["-o", str(tmp_path), "--seconds", "0"])
    assert done.exit_code == 3
    assert f"nothing could run: {find_device()}" in done.stderr
    with (tmp_path / "gpu.csv").open(newline="") as file:
        found = [*csv.DictReader(file)]
    assert all(row["note"].startswith("skipped: ") and row["passed"] == "" for row in found)
    contestants = {row["contestant"] for row in found}
    assert {"tensorrt, stacked", "tensorrt-rtx, branches", "torch eager"} <= contestants
    assert {int(row["branches"]) for row in found if row["part"] == "branches"} == {1, 2, 4, 8, 16, 32}
    assert {row["precision"] for row in found if row["part"] == "parity"} == {"fp32", "fp16", "bf16", "int8"}
