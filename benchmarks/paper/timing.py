"""Times several models in turns, each in a process of its own, and measures the memory of their calls.

The models are exported to ONNX and run in ONNX Runtime. `benchmarks.harness` does the work.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.harness import worker
from benchmarks.harness.contest import QUICK, RULES, WORKER, Row, openmp_settings, with_timing
from benchmarks.harness.subjects import PLAIN, RECIPES, Subject, write_answers, write_graphs
from benchmarks.paper.reporting import print_progress
from paraexport.model.reference import ParaFormer
from paraexport.system import process
from paraexport.timing import contest
from paraexport.timing.contest import Rules
from paraexport.timing.stability import StoppingRule

RUNTIME = "onnxruntime"
THREADS = 1
TIMED = dataclasses.replace(RULES, rounds=7, stop=StoppingRule(at_most=14), burst_s=0.15)
MEMORY_CALLS = 3
MEASURE_MEMORY = "from benchmarks.paper import timing; timing.print_call_bytes(sys.argv[2:])"


def rules(*, quick: bool) -> Rules:
    return QUICK if quick else TIMED


def prepare(
    models: Mapping[str, ParaFormer], batches: Sequence[int], folder: Path, graphs: Sequence[str] = (PLAIN,)
) -> dict[str, Subject]:
    """Write the graphs and the answers of each model to a folder of its own below `folder`.

    Raises:
        RuntimeError: a graph could not be written.
    """
    subjects = {}
    for number, (name, model) in enumerate(models.items()):
        print_progress(f"export {name}")
        model.eval().requires_grad_(requires_grad=False)
        place = folder / str(number)
        place.mkdir()
        write_answers(model, place, batches)
        subjects[name] = write_graphs(model, place, graphs, RECIPES)
        if failed := subjects[name].failed:
            raise RuntimeError(f"{name}: {failed}")
    return subjects


def compete(
    subjects: Mapping[str, Subject], batch: int, rules: Rules, *, graph: str = PLAIN, threads: int = THREADS
) -> dict[str, Row]:
    """Time the graph of every subject, in turns; a row for each name."""
    rows = run_contest({(name, graph): subject for name, subject in subjects.items()}, batch, rules, threads)
    return {name: row for (name, _), row in rows.items()}


def run_contest(
    subjects: Mapping[tuple[str, str], Subject], batch: int, rules: Rules, threads: int = THREADS
) -> dict[tuple[str, str], Row]:
    """Time the graphs of several subjects, in turns; by name and graph."""
    rows, starting = {}, []
    for (name, graph), subject in subjects.items():
        gflop = 2e-9 * batch * subject.multiply_adds[graph]
        rows[name, graph] = Row(0, 0, batch, name, "scale", RUNTIME, graph, gflop=gflop)
        arguments = (RUNTIME, str(subject.folder), graph, str(batch), str(threads))
        command = process.command(WORKER, *arguments)
        starting.append(contest.Contestant(f"{name}, {graph}", command, openmp_settings(threads)))
    timings = contest.run(starting, [batch], rules, print_progress)
    return {
        key: with_timing(row, timing, rules) for (key, row), timing in zip(rows.items(), timings.values(), strict=True)
    }


def latency_text(row: Row) -> str:
    """Such as "1.23 (1.20 – 1.31)": the median of the bursts and their quartiles, in ms."""
    if row.latency_ms is None:
        return row.note
    text = f"{row.latency_ms:.3g} ({row.quartile_1_ms:.3g} – {row.quartile_3_ms:.3g})"
    return f"{text}, {row.note}" if row.note else text


def file_bytes(subject: Subject, graph: str = PLAIN) -> int:
    return (subject.folder / graph / "model.onnx").stat().st_size


def call_bytes(subject: Subject, batch: int, graph: str = PLAIN) -> int:
    """Memory at the peak of a few calls beyond that of the opened session, in a process of its own."""
    command = process.command(MEASURE_MEMORY, str(subject.folder), graph, str(batch))
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(json.loads(done.stdout))


def print_call_bytes(arguments: Sequence[str]) -> None:
    """The side of `call_bytes` in the new process. It needs Linux, which can forget the peak of a process."""
    folder, graph, batch = arguments
    session = worker.OPENERS[RUNTIME](Path(folder), graph, THREADS)
    images = np.load(Path(folder) / f"inputs-{batch}.npy")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = status_bytes("VmRSS")
    for _ in range(MEMORY_CALLS):
        session(images)
    print(status_bytes("VmHWM") - before, file=sys.stdout)


def status_bytes(name: str) -> int:
    """A line of /proc/self/status, such as `VmHWM:  1234 kB`, in bytes."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines())
    return 1024 * int(lines[name].split()[0])
