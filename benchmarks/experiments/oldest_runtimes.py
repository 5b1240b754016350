"""Which is the oldest ONNX Runtime, and the oldest OpenVINO, that opens our bundles and gives the right answers?

    python -m benchmarks.experiments.oldest_runtimes

The example checkpoint is built in every precision and layout. Each version of a runtime is installed into a folder of
its own, and a reader that knows nothing but the manifest runs the golden images. `targets/ort/provider.py` and
`targets/openvino.py` state the versions that this prints.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import click

from paraexport.pipeline.choices import LAYOUTS, PRECISIONS

VERSIONS = {
    "onnxruntime": ("1.17.3", "1.18.1", "1.19.2", "1.20.1", "1.21.1", "1.22.1", "1.23.2", "1.24.1", "1.32.0"),
    "openvino": (
        "2024.0.0", "2024.1.0", "2024.2.0", "2024.3.0", "2024.4.0", "2025.0.0", "2025.4.1", "2026.0.0", "2026.1.0",
        "2026.2.0", "2026.3.0", "2026.4.1",
    ),
}  # fmt: skip
FIRST_WITH_NUMPY_2 = {"onnxruntime": (1, 19), "openvino": (2024, 4)}
READER = """
import json, sys, pathlib, numpy, safetensors.numpy
folder = pathlib.Path(sys.argv[1])
manifest = json.loads((folder / "manifest.json").read_text())
runtime, golden = manifest["runtime"], safetensors.numpy.load_file(folder / "golden.safetensors")
if runtime["library"] == "onnxruntime":
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    for name, value in runtime["settings"].items():
        if name == "graph_optimization_level":
            options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, value)
        else:
            options.add_session_config_entry(name, value)
    session = onnxruntime.InferenceSession(str(folder / runtime["file"]), options, providers=[runtime["device"]])
    logits = session.run(None, {"images": golden["images"]})[0]
else:
    import openvino
    compiled = openvino.Core().compile_model(str(folder / runtime["file"]), runtime["device"], runtime["settings"])
    logits = compiled({0: golden["images"]})[0]
limit = next(check["limit"] for check in manifest["checks"] if check["name"] == "parity")
error = abs(logits - golden["logits"]).max() / abs(golden["logits"]).max()
print("right" if error <= limit else f"wrong: {error:.2g}")
"""


def install(folder: Path, library: str, version: str) -> None:
    numbers = tuple(map(int, version.split(".")[:2]))
    packages = [
        f"{library}=={version}",
        "safetensors",
        "numpy" if numbers >= FIRST_WITH_NUMPY_2[library] else "numpy<2",
    ]
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder)]
    if library == "openvino":
        packages.append("openvino-telemetry")
    subprocess.run([*command, *packages], check=True)


def build(folder: Path, library: str) -> list[Path]:
    """The example in every precision and layout."""
    bundles = []
    for precision in PRECISIONS:
        for layout in LAYOUTS:
            bundle = folder / f"{library}-{precision}-{layout}.bundle"
            command = [Path(sys.executable).with_name("paraexport"), "build", "models/digits.pt", "-o", bundle, "-q"]
            options = ["--target", library, "--precision", precision, "--layout", layout, "--data", "calib/digits/test"]
            subprocess.run([*map(str, command), *options], check=True, stdout=subprocess.DEVNULL)
            bundles.append(bundle)
    return bundles


def result(bundle: Path, packages: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-S", "-c", READER, bundle], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(packages)},
    )  # fmt: skip
    if done.returncode:
        return (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1][:90]
    return done.stdout.strip()


@click.command()
@click.option("--library", "libraries", multiple=True, default=tuple(VERSIONS), show_default=True)
def main(libraries: tuple[str, ...]) -> None:
    """Find the oldest runtimes that give the right answers to our bundles."""
    with tempfile.TemporaryDirectory() as work:
        for library in libraries:
            bundles = build(Path(work), library)
            for version in VERSIONS[library]:
                packages = Path(work) / f"{library}-{version}"
                install(packages, library, version)
                results = {bundle.stem: result(bundle, packages) for bundle in bundles}
                wrong = {name: text for name, text in results.items() if text != "right"}
                print(f"{library} {version}: {len(results) - len(wrong)} of {len(results)} right", flush=True)
                print(json.dumps(wrong, indent=1), flush=True)


if __name__ == "__main__":
    main()
