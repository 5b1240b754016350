"""Measure what paraexport itself costs: import, first answer, and a build without torch's own export.

    python -m benchmarks.costs

The example checkpoint is used. Every run is a fresh process, and does one build at most, as the command line does. The
smallest of several runs is printed beside the median, because other work on the machine can only add time.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import click

ROOT = Path(__file__).parent.parent
CHECKPOINT, IMAGES = ROOT / "models/digits.pt", ROOT / "calib/digits/test"

IMPORT = "import time; start_s = time.perf_counter(); import paraexport; print(time.perf_counter() - start_s)"
ANSWER = """
import time; start_s = time.perf_counter()
import paraexport, numpy
engine = paraexport.load({bundle!r})
engine(numpy.zeros((1, *engine.manifest.inputs[0].shape[1:]), numpy.float32))
print(time.perf_counter() - start_s)
"""


def run_code(code: str) -> float:
    """The number that `code` prints in a fresh process."""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    return float(done.stdout)


def command_s(*arguments: str) -> float:
    """Wall time of one command of paraexport, with the start of Python."""
    started_s = time.perf_counter()
    subprocess.run([sys.executable, "-m", "paraexport", *arguments], check=True, capture_output=True, cwd=ROOT)
    return time.perf_counter() - started_s


def build_s(bundle: Path, options: tuple[str, ...]) -> tuple[float, float]:
    """Seconds of torch's own export, and of everything else, in one command."""
    wall_s = command_s(*options, "--force")
    export_s = json.loads((bundle / "report.json").read_text())["export_s"]
    return export_s, wall_s - export_s


def print_row(name: str, limit_s: float | None, runs_s: list[float]) -> None:
    limit = "-" if limit_s is None else f"{limit_s:.2f}"
    print(f"{name:46} {limit:>9} {min(runs_s):9.3f} {statistics.median(runs_s):9.3f} {len(runs_s):6}")


@click.command(help="Measure the time of import, build and first answer.")
def main() -> None:
    packages = ("torch", "onnx", "onnxruntime", "numpy")
    print(f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}, ", end="")
    print(", ".join(f"{name} {version(name)}" for name in packages))
    print(f"{'seconds':46} {'at most':>9} {'smallest':>9} {'median':>9} {'runs':>6}")
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "digits.bundle"
        options = ("build", str(CHECKPOINT), "-o", str(bundle), "--data", str(IMAGES))
        print_row("import paraexport", 0.15, [run_code(IMPORT) for _ in range(10)])
        builds = [build_s(bundle, options) for _ in range(5)]
        print_row("build, beyond torch's own export", 3.0, [other_s for _, other_s in builds])
        print_row("torch's own export in it", None, [export_s for export_s, _ in builds])
        print_row("build again, unchanged", 1.5, [command_s(*options) for _ in range(5)])
        print_row(
            "import, load and first answer of the bundle",
            1.0,
            [run_code(ANSWER.format(bundle=str(bundle))) for _ in range(10)],
        )
        size_bytes = sum(
            entry["size_bytes"] for entry in json.loads((bundle / "manifest.json").read_text())["files"].values()
        )
    print(f"the bundle: {size_bytes / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
