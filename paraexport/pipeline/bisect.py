"""Defines bisect(), which finds the part of a bundle that its target computes wrongly."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path

from paraexport import bundle
from paraexport.bundle import report
from paraexport.checks import golden
from paraexport.checks.limits import LIMITS
from paraexport.errors import BundleError, MissingError
from paraexport.findings.bisection import Bisection
from paraexport.system.extras import install
from paraexport.targets.compilation import EngineOptions
from paraexport.timing.clock import Progress, silent

AnyPath = str | os.PathLike[str]
BISECTING = ("onnx", "onnx_ir", "onnxruntime")
"""The libraries needed to cut a graph and to run it node by node."""


def bisect(path: AnyPath, *, limits: Mapping[str, float] | None = None, progress: Progress = silent) -> Bisection:
    """Run each part of the bundle at `path` alone on its target, and compare it with the graph run node by node.

    Both run on the golden images.

    Args:
        limits: as in `build`. A part counts as off if its error exceeds the limit of `parity`.

    Raises:
        InputError: the bundle cannot be used.
        MissingError: the target is not installed here, its engine cannot run here, or a library is missing.
    """
    opened = bundle.read_bundle(Path(path))
    if missing := [name for name in BISECTING if importlib.util.find_spec(name) is None]:
        raise MissingError(f"--bisect needs {', '.join(missing)}", remedy=install("build"))
    from paraexport.checks import bisection

    defaults = {name: limit.value for name, limit in LIMITS[opened.manifest.precision].items()}
    of_build = {check.name: check.limit for check in opened.manifest.checks}
    parity_limit = {**defaults, **of_build, **(limits or {})}[bisection.PARITY]
    images = read_golden(opened).images
    return bisection.bisect(opened, images, limit=parity_limit, options=engine_options(opened), progress=progress)


def read_golden(opened: bundle.Bundle) -> golden.Golden:
    """Read the golden images and logits of a bundle.

    Raises:
        BundleError: they are missing, or belong to another model.
    """
    proof = golden.read_all(opened.files)
    shapes = [list(side[0].shape[1:]) for side in (opened.manifest.inputs, opened.manifest.outputs)]
    got = [list(proof.images.shape[1:]), list(proof.logits.shape[1:])]
    if got != shapes:
        where = opened.path / golden.FILE
        raise BundleError("the golden file belongs to another model", where=where, expected=shapes, got=got)
    return proof


def engine_options(opened: bundle.Bundle) -> EngineOptions:
    """Return the options with which the bundle's engine was compiled."""
    engine = report.read(opened.files).engine
    return EngineOptions() if engine is None else engine.options
