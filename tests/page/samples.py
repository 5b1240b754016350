"""Reports of bundles of several kinds, for the pages that are made of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

import paraexport
from paraexport.bundle import Bundle, report
from paraexport.bundle.records import Report
from paraexport.findings.branches import BranchReport, BranchWorth, FirstBranches
from tests.conftest import ROOT

HOSTILE = ("<script>alert(1)</script>", "שלום עולם", 'a"><img src=x onerror=alert(2)>', "{{ 7 * 7 }} $x$ &amp;")
"""Labels that a careless page would run, or show wrongly."""
MODULE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 3, 4), nn.Linear(4, 300)

    def forward(self, images):
        return self.last(self.first(images).relu().mean((2, 3)))

def make(path):
    torch.manual_seed(0)
    return Net()
"""


def report_of(bundle: Bundle) -> Report:
    return report.read(bundle.files)


def branches_of(count: int) -> BranchReport:
    """What `count` branches may be worth."""
    return BranchReport(
        images=359, labelled=True, accuracy=0.99, shared_multiply_adds=66_176,
        branches=tuple(
            BranchWorth(
                name=f"branches.{index}", contribution=1 / count, agreement_without=0.9, accuracy_without=0.89,
                multiply_adds=909_696, weights_bytes=398_336, precision_error=None,
            )
            for index in range(count)
        ),
        similarity=tuple(tuple(1.0 if row == column else 0.25 for column in range(count)) for row in range(count)),
        first=tuple(
            FirstBranches(branches=k, agreement=k / count, accuracy=k / count, latency_ms=0.1 * k, model_bytes=k * 1000)
            for k in range(1, count + 1)
        ),
    )  # fmt: skip


def with_branches(found: Report, branches: int, depth: int = 2) -> Report:
    """The report of a model with so many branches and layers."""
    assert found.subject is not None
    assert found.subject.spec is not None
    spec = dataclasses.replace(found.subject.spec, branches=branches, depth=depth)
    return dataclasses.replace(
        found, subject=dataclasses.replace(found.subject, spec=spec), branches=branches_of(branches)
    )


def build_int8(folder: Path) -> Bundle:
    return paraexport.build(
        ROOT / "models/noisy_digits.pt", folder / "int8.bundle", precision="int8",
        calib=ROOT / "calib/noisy_digits_calibration.npy", data=ROOT / "calib/noisy_digits.npz",
    )  # fmt: skip


def build_module(folder: Path) -> Bundle:
    """A module that is no Para-Former, with many classes, strange labels, and photos of noise."""
    labels = [*HOSTILE, *(f"class number {number}" for number in range(len(HOSTILE), 300))]
    (folder / "labels.txt").write_text("\n".join(labels), encoding="utf-8")
    (folder / "net.py").write_text(MODULE, encoding="utf-8")
    (folder / "empty.pt").write_bytes(b"")
    stream = np.random.default_rng(0)
    pixels = stream.integers(0, 256, (96, 120, 160, 3), dtype=np.uint8)
    np.savez(folder / "photos.npz", images=pixels, labels=stream.integers(0, 300, 96))
    return paraexport.build(
        folder / "empty.pt", folder / "module.bundle", module=f"{folder / 'net.py'}:make", data=folder / "photos.npz",
        spec={"image_size": "96", "channels": "3", "classes": "300", "labels": str(folder / "labels.txt")},
    )  # fmt: skip
