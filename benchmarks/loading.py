"""Compare time and memory of `paraexport.load` with the runtime alone, and with another version of paraexport.

    python -m benchmarks.loading [--against FOLDER] [-o RESULTS.md]

`--against` is another checkout of this project, for example of an earlier commit. Each version loads a bundle that it
built itself from the same checkpoint. Every measurement is a fresh process. All take turns, so that other work on the
machine affects them equally. Times do not include imports. Memory is the peak of the process minus its peak after the
imports, as Linux reports it.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import click

from benchmarks.harness.machine import describe
from benchmarks.harness.subjects import seeded_model
from paraexport.checkpoint.native import save_checkpoint
from paraexport.model.spec import Preprocessing, Spec

ROOT = Path(__file__).parent.parent
LARGE = Spec(
    image_size=(64, 64), patch_size=(16, 16), channels=3, classes=1000, dim=768, branches=8, depth=2, heads=12,
    head_dim=64, mlp_dim=3072, residual="normalized",
)  # fmt: skip
TARGETS = ("onnxruntime", "openvino")
MEASURE = """
import json, pathlib, re, sys, time
import numpy, PIL.Image, safetensors, {runtime}
bundle = sys.argv[1]
peak = lambda: int(re.search(r"VmHWM:\\s*(\\d+)", pathlib.Path("/proc/self/status").read_text())[1]) / 1024
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


def run(checkout: Path | None, *command: str) -> str:
    """Run `python command` with the package of `checkout`, and return what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(checkout or "")}
    return subprocess.run(
        [sys.executable, "-P", *command], check=True, stdout=subprocess.PIPE, text=True, env=environment
    ).stdout


def measure(bundle: Path, target: str, checkout: Path | None) -> tuple[float, float]:
    """Seconds and MB of one load in a fresh process: by the package in `checkout`, or by the runtime alone."""
    parts = OURS if checkout else {"imports": "", "load": ALONE[target]}
    seconds, peak_mb = json.loads(run(checkout, "-c", MEASURE.format(runtime=target, **parts), str(bundle)))
    return seconds, peak_mb


def rows(name: str, checkpoint: Path, target: str, contestants: dict[str, Path | None], times: int) -> list[str]:
    """Measure every contestant `times` times, in turns, and return its row of the table."""
    bundles: dict[str, Path] = {}
    for contestant, checkout in contestants.items():
        bundles[contestant] = checkpoint.parent / f"{checkpoint.stem}-{target}-{len(bundles)}"
        build = ("build", str(checkpoint), "-o", str(bundles[contestant]), "--target", target, "--max-batch", "8")
        run(checkout or ROOT, "-m", "paraexport", *build, "-q")
    loads: dict[str, list[tuple[float, float]]] = {contestant: [] for contestant in contestants}
    for _ in range(times):
        for contestant, checkout in contestants.items():
            loads[contestant].append(measure(bundles[contestant], target, checkout))
    lines = []
    for contestant, measured in loads.items():
        seconds, peaks_mb = zip(*measured, strict=True)
        figures = f"{min(seconds):.3f} | {statistics.median(seconds):.3f} | {statistics.median(peaks_mb):.0f}"
        lines.append(f"| {name} | {target} | {contestant} | {figures} |")
        print(lines[-1], flush=True)
    return lines


def checkpoints(work: Path) -> dict[str, Path]:
    """The example checkpoint, and a model of about 500 MB with random weights."""
    images = Preprocessing(image_size=LARGE.image_size, channels=LARGE.channels, resize=LARGE.image_size)
    save_checkpoint(work / "large.pt", seeded_model(LARGE), images, tuple(map(str, range(LARGE.classes))))
    shutil.copy(ROOT / "models/digits.pt", work)
    return {"example": work / "digits.pt", f"{(work / 'large.pt').stat().st_size / 1e6:.0f} MB": work / "large.pt"}


@click.command()
@click.option("--against", type=click.Path(path_type=Path), help="Another checkout of this project.")
@click.option("--times", default=15, show_default=True, help="Fresh processes for each row.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Markdown file for the table.")
def main(against: Path | None, times: int, output: Path | None) -> None:
    """Measure time and memory of a load."""
    contestants: dict[str, Path | None] = {"the runtime alone": None, "paraexport": ROOT}
    if against is not None:
        contestants["paraexport before"] = against.resolve()
    machine = describe().line()
    lines = ["| model | target | opened by | fastest, s | median, s | memory, MB |", "|-|-|-|-|-|-|"]
    print("\n".join(lines))
    with tempfile.TemporaryDirectory() as work:
        for name, checkpoint in checkpoints(Path(work)).items():
            for target in TARGETS:
                lines += rows(name, checkpoint, target, contestants, times)
    if output is not None:
        title = "# Loading\n\n`python -m benchmarks.loading`: time and peak memory of one load in a fresh process."
        output.write_text(f"{title}\n{machine}\n\n" + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
