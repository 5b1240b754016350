"""Time and memory of `paraexport.load`, beside the runtime alone and beside another version of paraexport.

    python -m benchmarks.loading [--against FOLDER] [-o RESULTS.md]

`--against` is another checkout of this project, such as one of an earlier commit; it must read the same bundles. Every
measurement is a fresh process, and all take turns, so that other work on the machine strikes them alike. What is timed
does not include imports. Memory is the peak of the process, less what it was after the imports.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import click

import paraexport
from benchmarks.machine import describe
from benchmarks.subjects import seeded_model
from paraexport.checkpoint import save_checkpoint
from paraexport.spec import Preprocessing, Spec

ROOT = Path(__file__).parent.parent
LARGE = Spec(
    image_size=(64, 64), patch_size=(16, 16), channels=3, classes=1000, dim=768, branches=8, depth=2, heads=12,
    head_dim=64, mlp_dim=3072, residual="normalized",
)  # fmt: skip
TARGETS = ("onnxruntime", "openvino")
MEASURE = """
import json, resource, sys, time
import numpy, PIL.Image, safetensors, {runtime}
bundle = sys.argv[1]
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
{imports}
before_mb, started_s = peak(), time.perf_counter()
{load}
print(json.dumps([time.perf_counter() - started_s, peak() - before_mb]))
"""
ALONE = {
    "onnxruntime": "session = onnxruntime.InferenceSession(bundle + '/model.onnx', providers=['CPUExecutionProvider'])",
    "openvino": "compiled = openvino.Core().compile_model(bundle + '/model.onnx', 'CPU', "
    "{'INFERENCE_PRECISION_HINT': 'f32', 'PERFORMANCE_HINT': 'LATENCY'})",
}
OURS = {"imports": "import paraexport.engine", "load": "engine = paraexport.load(bundle)"}


def measure(bundle: Path, target: str, checkout: Path | None) -> tuple[float, float]:
    """(seconds, MB) of one load in a fresh process: by the package in `checkout`, or by the runtime alone."""
    parts = OURS if checkout else {"imports": "", "load": ALONE[target]}
    code = MEASURE.format(runtime=target, **parts)
    environment = {**os.environ, "PYTHONPATH": str(checkout or "")}
    command = [sys.executable, "-P", "-c", code, str(bundle)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    seconds, peak_mb = json.loads(done.stdout.splitlines()[-1])
    return seconds, peak_mb


def rows(name: str, bundle: Path, target: str, contestants: dict[str, Path | None], times: int) -> list[str]:
    """One row of the table for each contestant; each takes its turn `times` times."""
    found: dict[str, list[tuple[float, float]]] = {contestant: [] for contestant in contestants}
    for _ in range(times):
        for contestant, checkout in contestants.items():
            found[contestant].append(measure(bundle, target, checkout))
    lines = []
    for contestant, runs in found.items():
        seconds, peaks = zip(*runs, strict=True)
        figures = f"{min(seconds):.3f} | {statistics.median(seconds):.3f} | {statistics.median(peaks):.0f}"
        lines.append(f"| {name} | {target} | {contestant} | {figures} |")
        print(lines[-1], flush=True)
    return lines


def bundles(work: Path, target: str) -> dict[str, Path]:
    """The example, and a model of about 500 MB with random weights."""
    example = paraexport.build(ROOT / "models/digits.pt", work / f"digits-{target}", target=target)
    images = Preprocessing(image_size=LARGE.image_size, channels=LARGE.channels, resize=LARGE.image_size)
    if not (checkpoint := work / "large.pt").exists():
        save_checkpoint(checkpoint, seeded_model(LARGE), images, tuple(map(str, range(LARGE.classes))))
    large = paraexport.build(checkpoint, work / f"large-{target}", target=target, max_batch=8)
    size_mb = sum(entry.size_bytes for entry in large.manifest.files.values()) / 1e6
    return {"example": example.path, f"{size_mb:.0f} MB": large.path}


@click.command()
@click.option("--against", type=click.Path(path_type=Path), help="Another checkout of this project.")
@click.option("--times", default=15, show_default=True, help="Processes for each row.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="A Markdown file for the table.")
def main(against: Path | None, times: int, output: Path | None) -> None:
    """Print time and memory of a load."""
    contestants: dict[str, Path | None] = {"the runtime alone": None, "paraexport": ROOT}
    if against is not None:
        contestants["paraexport before"] = against.resolve()
    machine = describe().line()
    lines = ["| model | target | opened by | seconds, least | median | memory, MB |", "|-|-|-|-|-|-|"]
    print("\n".join(lines))
    with tempfile.TemporaryDirectory() as work:
        for target in TARGETS:
            for name, bundle in bundles(Path(work), target).items():
                lines += rows(name, bundle, target, contestants, times)
    if output is not None:
        title = "# Loading\n\n`python -m benchmarks.loading`: time and peak memory of one load in a fresh process."
        output.write_text(f"{title}\n{machine}\n\n" + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
