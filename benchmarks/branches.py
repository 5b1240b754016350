"""Measure bundles that hold several numbers of branches: their size, the bits of their logits, accuracy, and a sweep.

    python -m benchmarks.branches [-o RESULTS.md]

Models: the two example checkpoints, and the released architecture with 16 branches and random weights. `size` is the
size of all models and weights with `--branches-at-load all`, divided by that of the model alone. `equal` counts the
numbers of branches whose logits have the bits of a build of its own with `--branches K`.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import click
import numpy as np

import paraexport
from benchmarks.harness.machine import describe
from benchmarks.harness.subjects import released, seeded_model
from paraexport.bench.bench import Settings
from paraexport.bench.sweep import sweep
from paraexport.bundle import Bundle, report
from paraexport.checkpoint.native import save_checkpoint
from paraexport.model.spec import Preprocessing
from paraexport.targets.folder import MODEL, WEIGHTS

ROOT = Path(__file__).parent.parent
EXAMPLES = {"digits": "digits/test", "noisy_digits": "noisy_digits.npz"}
RELEASED, BRANCHES = "released, L = 16", 16
LABELS = tuple("0123456789")


@click.command()
@click.option("--layout", default="stacked", show_default=True, help="The layout of every bundle.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Also write the page to this file.")
def main(layout: str, output: Path | None) -> None:
    lines = [f"On {describe().line()}. Layout {layout}, ONNX Runtime, float32.", ""]
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        sizes, accuracies, sweeps = [], [], []
        for name, checkpoint, data in subjects(work):
            click.echo(f"{name}: build", err=True)
            output_path = work / f"{checkpoint.stem}.bundle"
            bundle = paraexport.build(checkpoint, output_path, layout=layout, data=data, branches_at_load="all")
            sizes.append(size_row(name, bundle, checkpoint, layout, work))
            accuracies += accuracy_rows(name, bundle)
            started_s = time.perf_counter()
            swept = sweep(bundle.path, Settings(), data=data)
            took_s = time.perf_counter() - started_s
            sweeps.append(f"| {name} | {len(swept.rows)} | {took_s:.0f} s | {swept.conclusion} |")
    lines += ["| model | whole model alone | all numbers | size | equal |", "|-|-|-|-|-|", *sizes, ""]
    head = "| model | branches | top-1 % | same answer % | ms, one image, a first look | size |"
    lines += [head, "|-|-|-|-|-|-|", *accuracies, ""]
    lines += ["| sweep | numbers | took | conclusion |", "|-|-|-|-|", *sweeps]
    text = "\n".join(lines) + "\n"
    click.echo(text, nl=False)
    if output is not None:
        output.write_text(text, encoding="utf-8")


def subjects(work: Path) -> list[tuple[str, Path, Path | None]]:
    """Name, checkpoint and labelled images."""
    examples: list[tuple[str, Path, Path | None]] = [
        (name, ROOT / f"models/{name}.pt", ROOT / "calib" / images) for name, images in EXAMPLES.items()
    ]
    spec = released(BRANCHES, 2, "cls")
    preprocessing = Preprocessing(image_size=spec.image_size, channels=spec.channels, resize=spec.image_size)
    save_checkpoint(work / "released.pt", seeded_model(spec), preprocessing, LABELS)
    return [*examples, (RELEASED, work / "released.pt", None)]


def size_row(name: str, bundle: Bundle, checkpoint: Path, layout: str, work: Path) -> str:
    alone = paraexport.build(checkpoint, work / "alone.bundle", layout=layout, force=True)
    whole = sum(alone.manifest.files[file].size_bytes for file in (MODEL, WEIGHTS) if file in alone.manifest.files)
    several = sum(entry.size_bytes for file, entry in bundle.manifest.files.items() if file.startswith("model."))
    (_, *image) = bundle.manifest.inputs[0].shape
    images = np.random.default_rng(0).standard_normal((4, *map(int, image))).astype(np.float32)
    counts = [model.branches for model in bundle.manifest.fewer_branches]
    checked = counts if len(counts) < BRANCHES - 1 else counts[:: len(counts) // 3]
    equal = 0
    for count in checked:
        own = paraexport.build(checkpoint, work / "own.bundle", layout=layout, branches=count, force=True)
        equal += np.array_equal(paraexport.load(own.path)(images), paraexport.load(bundle.path, branches=count)(images))
    return (
        f"| {name} | {whole / 1e6:.2f} MB | {several / 1e6:.2f} MB | {several / whole:.3f} | "
        f"{equal} of {len(checked)} |"
    )


def accuracy_rows(name: str, bundle: Bundle) -> list[str]:
    branches = report.read(bundle.files).branches
    assert branches is not None
    return [
        f"| {name} | {first.branches} | {'-' if first.accuracy is None else f'{100 * first.accuracy:.2f}'} | "
        f"{100 * first.agreement:.2f} | {first.latency_ms:.3g} | {(first.model_bytes or 0) / 1e6:.2f} MB |"
        for first in branches.first
    ]


if __name__ == "__main__":
    main()
