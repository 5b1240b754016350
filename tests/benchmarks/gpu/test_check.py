"""`make gpu-check` names what it skips, and a run in which nothing ran is no success."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from benchmarks.gpu import check, measure, memory, torch_peers
from benchmarks.gpu.budget import TimeBudget
from benchmarks.gpu.report import text
from benchmarks.gpu.rows import Row
from benchmarks.harness.prepared import Models, Prepared
from paraexport.model.spec import Spec
from paraexport.targets.trt.device import find_device
from tests.targets.engines import SMALL


def test_without_time_everything_is_skipped_by_name_and_the_exit_code_is_3(tmp_path: Path) -> None:
    done = CliRunner().invoke(check.main, ["-o", str(tmp_path), "--seconds", "0"])
    assert done.exit_code == 3
    assert f"no target could run: {find_device()}" in done.stderr
    with (tmp_path / "gpu.csv").open(newline="") as file:
        rows = [*csv.DictReader(file)]
    assert all(row["note"].startswith("skipped: ") and row["passed"] == "" for row in rows)
    gates = [line for line in done.stdout.splitlines() if line.startswith("not run: ")]
    assert {line.split(": ")[1] for line in gates} >= {"tensorrt, stacked", "tensorrt-rtx, stacked"}
    page = (tmp_path / "gpu.md").read_text()
    assert all(f"- {line}" in page for line in gates)
    assert "No ceilings: PyTorch has no CUDA here." in page
    assert "Skipped:" in page
    assert "- PyTorch has no CUDA here: branches: torch eager, fp16, L = 1, M = 2;" in page
    contestants = {row["contestant"] for row in rows}
    assert {"tensorrt, stacked", "tensorrt-rtx, branches", "torch eager"} <= contestants
    swept = {(row["contestant"], int(row["branches"])) for row in rows if row["part"] == "branches"}
    layouts = {f"{target}, {layout}" for target in check.TARGETS for layout in ("branches", "folded", "stacked")}
    assert swept == {(name, branches) for name in layouts | {*torch_peers.MODES} for branches in (1, 2, 4, 8, 16, 32)}
    assert len(rows) == len(
        {(row["part"], row["contestant"], row["precision"], row["branches"], row["depth"]) for row in rows}
    )
    assert {row["precision"] for row in rows if row["part"] == "parity"} == {"fp32", "fp16", "bf16", "int8"}


def test_a_step_does_not_start_if_it_may_take_longer_than_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("benchmarks.gpu.budget.time.monotonic", lambda: now[0])
    budget = TimeBudget(100)
    assert budget.refusal("torch.compile") == ""
    with budget.step("torch.compile"):
        now[0] = 30.0
    assert budget.refusal("torch.compile") == ""
    now[0] = 41.0
    assert budget.refusal("torch.compile") == "no time left: 59 s, and torch.compile took up to 30 s"
    assert budget.refusal("tensorrt") == ""
    now[0] = 101.0
    assert budget.refusal("tensorrt") == "no time left"


def small(branches: int) -> Spec:
    return dataclasses.replace(SMALL, branches=branches, depth=1)


def test_an_engine_that_fails_is_named_and_the_others_still_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise an error of a runtime would end the run, with all later rows."""
    target = "onnxruntime"

    def broken(target: str, prepared: Prepared, layout: str, precision: str, folder: Path) -> check.Opened:
        if layout == "folded":
            raise RuntimeError("CUDA error 700:\nan illegal | memory access")
        return real(target, prepared, layout, precision, folder)

    real = check.open_engine
    monkeypatch.setattr(check, "TARGETS", (target,))
    monkeypatch.setattr(check, "open_engine", broken)
    monkeypatch.setattr(measure, "WINDOW_S", 0.001)
    conditions = check.Conditions(TimeBudget(1000), Models(tmp_path), "none were measured")
    rows = [*check.engines("parity", small(2), ("folded", "branches"), ("fp32",), conditions)]
    assert [(row.contestant, row.batch, row.passed) for row in rows] == [
        ("onnxruntime, folded", 0, False),
        ("onnxruntime, branches", 1, True),
        ("onnxruntime, branches", 32, True),
    ]
    assert rows[0].note == "RuntimeError: CUDA error 700: an illegal | memory access"
    assert text(rows[0].note) == "RuntimeError: CUDA error 700: an illegal \\| memory access"
    assert all(row.latency_ms and row.gflop and row.attained is None for row in rows[1:])


def test_a_graph_is_written_once_for_all_targets_with_the_same_dialect(tmp_path: Path) -> None:
    prepared = Models(tmp_path).get(small(2))
    folder = prepared.graph("tensorrt", "stacked", "fp16")
    assert prepared.graph("tensorrt-rtx", "stacked", "fp16") == folder
    others = {prepared.graph("tensorrt", "folded", "fp16"), prepared.graph("tensorrt", "stacked", "fp32")}
    others.add(prepared.graph("onnxruntime-cuda", "stacked", "fp32"))
    assert len({*others, folder}) == 4
    assert all((graph / "model.onnx").is_file() for graph in (*others, folder))


def test_every_model_is_compiled_by_torch_for_every_batch(tmp_path: Path) -> None:
    """Without a reset, torch.compile runs the ninth model and batch, and all later ones, uncompiled."""
    compiled: list[int] = []

    def backend(module: torch.fx.GraphModule, _: list[torch.Tensor]) -> Callable[..., object]:
        compiled.append(len(compiled))
        return module.forward

    models = Models(tmp_path)
    for branches in range(1, 7):
        prepared = models.get(small(branches))
        model = torch_peers.compile_module(prepared.model, backend=backend)
        for batch in (1, 32):
            with torch.inference_mode():
                logits = model(torch.from_numpy(prepared.images[:batch])).numpy()
            assert np.abs(logits - prepared.expected[:batch]).max() <= 1e-5 * np.abs(prepared.expected).max()
    assert len(compiled) == 12


def test_a_peer_that_fails_is_named_and_fails_no_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(row: Row, prepared: Prepared, mode: str | None) -> list[Row]:
        if mode == "default":
            raise RuntimeError("no working C compiler")
        return [dataclasses.replace(row, batch=1, latency_ms=1.0, error=0.5, passed=False)]

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch_peers, "measure", broken)
    rows = [*torch_peers.rows("branches", Models(tmp_path).get(small(2)), TimeBudget(1000))]
    assert [(row.contestant, row.latency_ms, row.passed) for row in rows] == [
        ("torch eager", 1.0, None), ("torch.compile", None, None), ("torch.compile, CUDA graphs", 1.0, None),
    ]  # fmt: skip
    assert rows[1].note == "RuntimeError: no working C compiler"


def test_memory_without_a_gpu_is_unknown_and_not_0() -> None:
    if not isinstance(find_device(), str):
        pytest.skip("there is a GPU here")
    assert memory.in_use_bytes() is None
    assert memory.increase_bytes(None) is None
