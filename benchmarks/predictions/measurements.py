"""Reads every latency in `benchmarks/results/`."""

from __future__ import annotations

import csv
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.harness.contest import THREADS
from benchmarks.harness.subjects import released
from paraexport.model.spec import Spec

RESULTS = Path(__file__).parents[1] / "results"
Part = Literal["fit", "scale", "check"]
CONTESTS = ("peers", "scaling", "forms-fp32", "forms", "int8")
OPERATORS = ("operators-openvino-folded", "operators-openvino-stacked")
CPP, PAPER = "cpp", "paper/latency"
RUNTIMES = {"onnxruntime": "onnxruntime", "openvino": "openvino", "openvino-ir": "openvino", "torch": "torch",
            "inductor": "compile", "inductor-frozen": "compile"}  # fmt: skip
LAYOUTS = {
    **{layout: (layout, "fp32") for layout in ("branches", "folded", "stacked")},
    **dict.fromkeys(("plain", "optimized"), ("branches", "fp32")),
    **dict.fromkeys(("float32-add", "float32-sum", "float32-attention"), ("folded", "fp32")),
    **dict.fromkeys(("nncf", "ort-static", "ort-dynamic", "modelopt"), ("branches", "int8")),
    **dict.fromkeys(("form-signed", "form-qdq", "form-products", "form-attention", "form-skips", "form-dynamic"),
                    ("folded", "int8")),
    **dict.fromkeys(("form-stacked", "form-rows"), ("stacked", "int8")),
}  # fmt: skip
"""By graph: the layout with the same arithmetic, and its precision. Other tools keep all arithmetic, as `branches`."""
OUR_INT8 = re.compile(r"int8-(folded|stacked)-\w+")
BUNDLE_FORMS = ("form-skips", "form-rows")
"""The forms of int8 that a bundle has."""
DIGITS = Spec(
    image_size=(32, 32), channels=1, classes=10, patch_size=(8, 8), dim=64, branches=4, depth=2, heads=2, head_dim=32,
    mlp_dim=256, residual="normalized", qkv_bias=False,
)  # fmt: skip
CPP_ROW = re.compile(r"\| (onnxruntime|openvino) \| (fp32|int8) \| (\d+) \| ([\d.]+) \|")
RATE = re.compile(r"one large product reaches (\d+) GFLOP/s")


@dataclass(frozen=True)
class Measurement:
    """One latency, and what the model needs to predict it."""

    file: str
    contestant: str
    ours: bool
    spec: Spec
    layout: str
    precision: str
    runtime: str
    """`onnxruntime`, `openvino`, `torch` or `compile`."""
    batch: int
    latency_ms: float
    part: Part
    """Whether the numbers of the model were fitted on it (`fit`), whether it gave the peak of its file (`scale`), or
    whether it only checks the model."""
    threads: int = THREADS
    stable: bool = True
    """Whether the file does not call it unstable."""


def read_all() -> list[Measurement]:
    """Every latency of a whole call; products of matrices, which are the peaks, are left out."""
    contests = (row for name in CONTESTS for row in read_contest(name))
    return [*contests, *read_operators(), *read_cpp(), *read_paper()]


def read_contest(name: str) -> Iterator[Measurement]:
    for row in contest_rows(name):
        if row["family"] == "peak" or not row["latency_ms"]:
            continue
        graph, runtime = row["graph"], RUNTIMES[row["runner"]]
        match = OUR_INT8.fullmatch(graph)
        layout, precision = (match[1], "int8") if match else LAYOUTS[graph]
        spec = released(int(row["branches"]), int(row["depth"]), "cls")
        ours = row["family"] == "ours" or (row["family"] == "scale" and graph != "plain")
        part: Part = "check"
        if is_fitted(name, graph, precision, runtime, spec.depth):
            part = "fit"
        elif row["family"] in ("peer", "scale") and precision == "fp32" and name in ("forms-fp32", "forms", "int8"):
            part = "scale"
        batch, latency_ms = int(row["batch"]), float(row["latency_ms"])
        yield Measurement(
            f"{name}.csv", row["contestant"], ours, spec, layout, precision, runtime, batch, latency_ms, part
        )


def is_fitted(name: str, graph: str, precision: str, runtime: str, depth: int) -> bool:
    """Whether the numbers of the model come from this row.

    In float32, all rows of one file, `peers`. For torch.compile only those with M = 2, because no other file has any.
    In int8, the graphs that bundles have, with M = 2.
    """
    if precision == "int8":
        return depth == 2 and (OUR_INT8.fullmatch(graph) is not None or graph in BUNDLE_FORMS)
    return name == "peers" and (runtime != "compile" or depth == 2)


def read_operators() -> Iterator[Measurement]:
    """Whole calls under OpenVINO's profiler: the sums of their operators."""
    for name in OPERATORS:
        totals: dict[tuple[str, int, int, int], float] = defaultdict(float)
        for row in contest_rows(name):
            key = (row["layout"], int(row["branches"]), int(row["depth"]), int(row["batch"]))
            totals[key] += float(row["ms_per_call"])
        for (layout, branches, depth, batch), total_ms in totals.items():
            spec, contestant = released(branches, depth, "cls"), f"{layout}, OpenVINO, profiled"
            yield Measurement(
                f"{name}.csv", contestant, True, spec, layout, "fp32", "openvino", batch, total_ms, "check"
            )


def read_cpp() -> Iterator[Measurement]:
    """The digits example with one thread, called from Python.

    Its int8 rows count as fitted: that one thread quantises without `quantised_s` was decided after seeing them.
    """
    for target, precision, batch, latency_us in CPP_ROW.findall((RESULTS / f"{CPP}.md").read_text(encoding="utf-8")):
        part: Part = "scale" if precision == "fp32" else "fit"
        yield Measurement(
            f"{CPP}.md", f"digits, folded, {target}", True, DIGITS, "folded", precision, target, int(batch),
            float(latency_us) / 1e3, part, threads=1,
        )  # fmt: skip


def read_paper() -> Iterator[Measurement]:
    """One thread beside other work. The fastest calls are read, because all medians of this file are unstable."""
    for row in contest_rows(PAPER):
        spec, layout = released(int(row["branches"]), int(row["depth"]), "cls"), row["way"]
        part: Part = "scale" if layout == "branches" else "check"
        yield Measurement(
            f"{PAPER}.csv", f"{layout}, one thread, fastest call", True, spec, layout, "fp32", "onnxruntime",
            int(row["batch"]), float(row["fastest_ms"]), part, threads=1, stable=not row["note"],
        )  # fmt: skip


def contest_rows(name: str) -> list[dict[str, str]]:
    with (RESULTS / f"{name}.csv").open(encoding="utf-8") as file:
        return [*csv.DictReader(file)]


def measured_peaks() -> dict[str, float]:
    """By file, operations a second of one large float32 product, where the file or its neighbour has it.

    `scaling` ran on the same machine as `peers`, six minutes later.
    """
    rates = [1e9 * float(row["gflop_per_s"]) for row in contest_rows("peers") if row["family"] == "peak"]
    peaks = dict.fromkeys(("peers.csv", "scaling.csv"), statistics.median(rates))
    for name in OPERATORS:
        match = RATE.search((RESULTS / f"{name}.md").read_text(encoding="utf-8"))
        assert match is not None, f"{name}.md has no rate of a product"
        peaks[f"{name}.csv"] = 1e9 * float(match[1])
    return peaks


def count_parts(rows: list[Measurement]) -> Counter[str]:
    return Counter(row.part for row in rows)
