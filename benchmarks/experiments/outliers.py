"""How much of the int8 accuracy that outliers cost does each remedy bring back?

    python -m benchmarks.experiments.outliers

There are three versions of `models/prenorm_digits.pt`, with the same answers in PyTorch. The first is the checkpoint
itself. The second has γ × 300 on three channels of every LayerNorm in the branches, undone in the weights that follow.
The third has three value channels × 300 in branches 1 and 3, undone in their output projections.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor

import paraexport
from benchmarks.harness import machine
from models.outliers import gamma_outliers, value_outliers
from paraexport.bundle.report import read
from paraexport.checks.limits import LIMITS

ROOT = Path(__file__).parents[2]
CHECKPOINT, CALIBRATION, TEST = (
    ROOT / name for name in ("models/prenorm_digits.pt", "calib/digits/calibration", "calib/digits/test")
)
State = Mapping[str, Tensor]
FIXTURES: dict[str, Callable[[State], State]] = {
    "as trained": lambda state: state,
    "γ × 300": gamma_outliers,
    "values × 300": value_outliers,
}


@dataclass(frozen=True)
class Remedy:
    name: str
    options: dict[str, Any]


REMEDIES = (
    Remedy("branches, no remedy", {"layout": "branches", "equalise": False}),
    Remedy("folded, not equalised", {"layout": "folded", "equalise": False}),
    Remedy("folded, not equalised, --max-drop 0.2", {"layout": "folded", "equalise": False, "max_drop": 0.2}),
    Remedy("folded", {"layout": "folded"}),
    Remedy("stacked", {"layout": "stacked"}),
)


@click.command(help="Measure what each remedy for outliers does for int8.")
def main() -> None:
    print(machine.describe().line())
    print("| weights | int8 | correct in PyTorch | correct in int8 | largest error / largest logit | kept in float32 |")
    print("|-|-|-|-|-|-|")
    no_limits = dict.fromkeys(LIMITS["int8"], 1e9)
    with tempfile.TemporaryDirectory() as temporary:
        for name, transform in FIXTURES.items():
            checkpoint = Path(temporary) / "checkpoint.pt"
            saved = torch.load(CHECKPOINT, weights_only=True)
            saved["state_dict"] = transform(saved["state_dict"])
            torch.save(saved, checkpoint)
            for remedy in REMEDIES:
                limits = {
                    key: value
                    for key, value in no_limits.items()
                    if key != "accuracy_drop" or "max_drop" not in remedy.options
                }
                built = paraexport.build(
                    checkpoint, Path(temporary) / "out.bundle", precision="int8", calib=CALIBRATION, data=TEST,
                    limits=limits, force=True, **remedy.options,
                )  # fmt: skip
                accuracy = read(built.files).accuracy
                assert accuracy is not None
                assert built.manifest.lowering is not None
                parity = next(check.value for check in built.manifest.checks if check.name == "parity")
                kept = ", ".join(built.manifest.lowering.kept) or "nothing"
                correct = f"{accuracy.pytorch_correct} | {accuracy.engine_correct} of {accuracy.images}"
                print(f"| {name} | {remedy.name} | {correct} | {parity:.2g} | {kept} |", flush=True)


if __name__ == "__main__":
    main()
