"""What paraexport itself costs, on the example checkpoint: import, first answer, and a build beyond torch's own export.

    python -m benchmarks.costs

Every figure comes from fresh processes; the smallest of several runs is printed beside the median, since other work on
the machine only ever adds. A build runs once per process, as the command line does.
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

ROOT = Path(__file__).parent.parent
CHECKPOINT, IMAGES = ROOT / "models/digits.pt", ROOT / "calib/digits/test"

IMPORT = "import time; s = time.perf_counter(); import paraexport; print(time.perf_counter() - s)"
ANSWER = """
import time; s = time.perf_counter()
import paraexport, numpy
engine = paraexport.load({bundle!r})
engine(numpy.zeros((1, *engine.manifest.inputs[0].shape[1:]), numpy.float32))
print(time.perf_counter() - s)
"""


def seconds(code: str) -> float:
    """What `code` prints in a fresh process."""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    return float(done.stdout)


def command(*arguments: str) -> float:
    """Wall time of one command of paraexport, Python's own start included."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "paraexport", *arguments], check=True, capture_output=True, cwd=ROOT)
    return time.perf_counter() - started


def build(bundle: Path, options: tuple[str, ...]) -> tuple[float, float]:
    """(seconds of torch's own export, seconds of everything else) of one whole command."""
    wall = command(*options, "--force")
    export = json.loads((bundle / "report.json").read_text())["export_s"]
    return export, wall - export


def show(name: str, limit: float | None, runs: list[float]) -> None:
    bound = "-" if limit is None else f"{limit:.2f}"
    print(f"{name:46} {bound:>9} {min(runs):9.3f} {statistics.median(runs):9.3f} {len(runs):6}")


def main() -> None:
    packages = ("torch", "onnx", "onnxruntime", "numpy")
    print(f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}, ", end="")
    print(", ".join(f"{name} {version(name)}" for name in packages))
    print(f"{'seconds':46} {'at most':>9} {'smallest':>9} {'median':>9} {'runs':>6}")
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "digits.bundle"
        options = ("build", str(CHECKPOINT), "-o", str(bundle), "--data", str(IMAGES))
        show("import paraexport", 0.15, [seconds(IMPORT) for _ in range(10)])
        builds = [build(bundle, options) for _ in range(5)]
        show("build, beyond torch's own export", 3.0, [beyond for _, beyond in builds])
        show("torch's own export in it", None, [export for export, _ in builds])
        show("build again, unchanged", 1.5, [command(*options) for _ in range(5)])
        show(
            "import, load and first answer of the bundle",
            1.0,
            [seconds(ANSWER.format(bundle=str(bundle))) for _ in range(10)],
        )
        size = sum(
            entry["size_bytes"] for entry in json.loads((bundle / "manifest.json").read_text())["files"].values()
        )
    print(f"the bundle: {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
