"""Measures what the report adds to a build: `python -m benchmarks.report`.

Each run is a process of its own, because most of the time goes into importing the libraries that draw. Earlier stages
of a build have imported torch, onnx and NumPy, and so has this measurement.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import paraexport
from paraexport.bundle import report
from paraexport.bundle.records import Report

ROOT = Path(__file__).parent.parent
CHECKPOINT, IMAGES = ROOT / "models/digits.pt", ROOT / "calib/digits/test"


def measure(folder: Path) -> dict[str, float]:
    """Seconds of the stage `report` in the build, and of drawing the page of the bundle in `folder` here."""
    from paraexport.targets.folder import Folder

    for name in ("torch", "onnx_ir", "paraexport.pipeline.build"):
        importlib.import_module(name)
    found = report.read(Folder(folder))
    started_s, started_cpu_s = time.perf_counter(), time.process_time()
    page_bytes = draw(found)
    return {
        "gather_s": found.stages_s["report"],
        "page_s": time.perf_counter() - started_s,
        "page_cpu_s": time.process_time() - started_cpu_s,
        "page_bytes": page_bytes,
    }


def draw(found: Report) -> int:
    from paraexport.page import report as pages

    return len(pages.page(found).encode())


def main() -> None:
    parser = argparse.ArgumentParser(description="What the report adds to a build.")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--bundle", type=Path, help="measure the report of this bundle, in this process")
    given = parser.parse_args()
    if given.bundle:
        print(json.dumps(measure(given.bundle)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "digits.bundle"
        for _ in range(given.runs):
            paraexport.build(CHECKPOINT, bundle, data=IMAGES, force=True)
            command = [sys.executable, "-m", "benchmarks.report", "--bundle", str(bundle)]
            rows.append(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    print(f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}")
    for name in ("gather_s", "page_s", "page_cpu_s"):
        values = [row[name] for row in rows]
        print(f"{name}: median {statistics.median(values):.2f}, worst {max(values):.2f}")
    print(f"page: {rows[-1]['page_bytes']:,} bytes")


if __name__ == "__main__":
    main()
