"""bisect(): find the part of a bundle that its target computes otherwise than the graph says."""

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
"""The libraries that cut a graph and run it node by node."""


def bisect(path: AnyPath, *, limits: Mapping[str, float] | None = None, progress: Progress = silent) -> Bisection:
    """Run every part of the bundle at `path` alone on its target, beside the graph node by node, on the golden images.

    Args:
        limits: as in `build`; that of `parity` is from where on a part is off.

    Raises:
        InputError: the bundle cannot be used.
        MissingError: the target is not installed here, its engine cannot run here, or a library is missing.
    """
    opened = bundle.read_bundle(Path(path))
    if missing := [name for name in BISECTING if importlib.util.find_spec(name) is None]:
        raise MissingError(f"--bisect needs {', '.join(missing)}", remedy=install("build"))
    from paraexport.checks import bisection

    usual = {name: one.value for name, one in LIMITS[opened.manifest.precision].items()}
    then = {one.name: one.limit for one in opened.manifest.checks}
    limit = {**usual, **then, **(limits or {})}[bisection.PARITY]
    images = golden_of(opened).images
    return bisection.bisect(opened, images, limit=limit, options=engine_options(opened), progress=progress)


def golden_of(opened: bundle.Bundle) -> golden.Golden:
    """The golden images and logits of a bundle.

    Raises:
        BundleError: they are missing, or of another model.
    """
    proof = golden.read_all(opened.files)
    shapes = [list(side[0].shape[1:]) for side in (opened.manifest.inputs, opened.manifest.outputs)]
    got = [list(proof.images.shape[1:]), list(proof.logits.shape[1:])]
    if got != shapes:
        where = opened.path / golden.FILE
        raise BundleError("the golden file is of another model", where=where, expected=shapes, got=got)
    return proof


def engine_options(opened: bundle.Bundle) -> EngineOptions:
    """How its engine was compiled."""
    engine = report.read(opened.files).engine
    return EngineOptions() if engine is None else engine.options
