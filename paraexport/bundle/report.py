"""Writes the report of a build for programs (`report.json`) and for people (`report.html`, a self-contained page)."""

from __future__ import annotations

import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from paraexport.bundle import REBUILD, report_page
from paraexport.bundle.records import Manifest, Report
from paraexport.errors import BundleError, on_one_line
from paraexport.findings.branches import BranchReport
from paraexport.findings.checks import Accuracy
from paraexport.findings.speed import FirstLook
from paraexport.images.dataset import Samples
from paraexport.targets.compilation import EngineInfo
from paraexport.targets.folder import Folder
from paraexport.timing.clock import Clock

JSON, HTML = "report.json", "report.html"


def summarise(  # noqa: PLR0917
    manifest: Manifest,
    samples: Samples,
    accuracy: Accuracy | None,
    clock: Clock,
    export_s: float,
    engine: EngineInfo | None = None,
    warnings: tuple[str, ...] = (),
    first_look: FirstLook | None = None,
    branches: BranchReport | None = None,
) -> Report:
    """Collect the report of the build that made `manifest`."""
    return Report(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}",
        stages_s=dict(clock.seconds),
        export_s=export_s,
        total_s=clock.total,
        evidence=manifest.evidence,
        made_up=samples.made_up,
        unreadable=samples.unreadable,
        accuracy=accuracy,
        checks=manifest.checks,
        assumptions=manifest.assumptions,
        engine=engine,
        warnings=warnings,
        first_look=first_look,
        branches=branches,
    )


def write(
    folder: Path, manifest: Manifest, report: Report, images: NDArray[np.float32], logits: NDArray[np.float32]
) -> None:
    """Write both files into `folder`. The page shows `images` [n, C, H, W] with the labels of `logits` [n, classes]."""
    content = json.dumps(msgspec.to_builtins(report), indent=2, ensure_ascii=False)
    (folder / JSON).write_text(content + "\n", encoding="utf-8")
    (folder / HTML).write_text(report_page.render(manifest, report, images, logits), encoding="utf-8")


def read(folder: Folder) -> Report:
    """Read the report of a bundle.

    Raises:
        BundleError: the report is missing, or has another form because another version of paraexport wrote it.
    """
    content = folder.read(JSON)
    try:
        return msgspec.json.decode(content, type=Report)
    except (ValueError, RecursionError) as error:  # msgspec raises a ValueError
        where, got = folder.path / JSON, on_one_line(error)
        raise BundleError("the report cannot be read", where=where, got=got, remedy=REBUILD) from error
