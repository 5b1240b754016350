"""Reads the weights of both examples with wrong fields, and prints what a build with --data reports.

python -m benchmarks.experiments.wrong_fields

"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import torch

from paraexport.images import class_order
from paraexport.model.scores import classes_of
from paraexport.model.spec import LOGITS
from paraexport.pipeline import images, reading
from paraexport.pipeline.doubtful_fields import doubts
from paraexport.pipeline.options import Options

ROOT = Path(__file__).parents[2]
EXAMPLES = {"digits": "calib/digits/test", "noisy_digits": "calib/noisy_digits.npz"}
HEADS, RESIDUALS = (1, 2, 4, 8, 16, 32), ("normalized", "input", "post")
NORMALISATIONS = ((0.0, 1.0), (0.485, 0.229), (0.1307, 0.3081), (0.5, 1.0), (0.0, 0.5))


def settings(right: dict[str, object]) -> Iterator[dict[str, object]]:
    """The right fields, every other combination of heads and residual, and wrong means and standard deviations."""
    for heads, residual in itertools.product(HEADS, RESIDUALS):
        yield {**right, "heads": heads, "residual": residual}
    for mean, std in NORMALISATIONS:
        yield {**right, "mean": mean, "std": std}


@click.command()
def main() -> None:
    torch.set_num_threads(1)
    print("| example | fields | top-1 of PyTorch | what a build reports |\n|-|-|-|-|")
    for name, data in EXAMPLES.items():
        content = torch.load(ROOT / f"models/{name}.pt", weights_only=True)
        right = {"heads": content["spec"]["heads"], "residual": content["spec"]["residual"]}
        with tempfile.TemporaryDirectory() as folder:
            bare = Path(folder) / "bare.pt"
            torch.save(content["state_dict"], bare)
            for spec in settings(right):
                accuracy, lines = report(bare, spec, ROOT / data)
                mark = " (right)" if spec == right else ""
                words = " ".join(f"{field}={value}" for field, value in spec.items())
                print(f"| {name} | {words}{mark} | {accuracy:.1f} % | {'; '.join(lines) or '-'} |", flush=True)


def report(checkpoint: Path, spec: dict[str, object], data: Path) -> tuple[float, list[str]]:
    """(accuracy in percent, the warnings of a build)."""
    options = Options(spec={name: str(value) for name, value in spec.items()}, data=data)
    loaded = reading.load(checkpoint, options.reading)
    samples, _ = images.open_all(options.images, loaded)
    logits = images.pytorch_answers(loaded, samples, options.max_batch).logits
    answered, labels = classes_of(logits, LOGITS), samples.labels
    assert labels is not None
    lines = [*doubts(loaded, samples, logits, options.reading, size=options.max_batch)]
    lines += class_order.doubts(labels, answered, loaded.labels, samples.folders)
    return 100 * float(np.mean(answered == labels)), lines


if __name__ == "__main__":
    main()
