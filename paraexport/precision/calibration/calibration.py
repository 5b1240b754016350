"""Finds the scales of a graph's activations on calibration images, and caches them."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from paraexport.graph.onnx_file import without_weights
from paraexport.precision.calibration.calibrators import CALIBRATORS, Range, Scale, scale_for
from paraexport.precision.calibration.histograms import ImageBatches, observe_histograms
from paraexport.system.files import cache_folder
from paraexport.targets.cached_file import write_cached

SOURCE_FILES = ("calibrators.py", "histograms.py")
"""The code that computes ranges. It is part of the cache key."""
Ranges = dict[str, Range]


@dataclass(frozen=True)
class Calibration:
    """How scales are found: on which images, and by which calibrator."""

    images: ImageBatches
    digest: str
    """Of the images, their order and preprocessing."""
    calibrator: str
    folder: Path
    """The cache of ranges that were found before."""
    origin: str
    """The images, as a report names them."""

    def find_scales(self, model: ir.Model, names: Sequence[str], *, signed: bool) -> dict[str, Scale]:
        """The scale of each named value of a float32 graph."""
        ranges = self.find_ranges(model, names, signed=signed)
        return {name: scale_for(ranges[name], signed=signed) for name in names}

    def find_constant(self, model: ir.Model, names: Sequence[str], *, signed: bool) -> tuple[str, ...]:
        """The named values that are one and the same number on all images."""
        extremes = dataclasses.replace(self, calibrator="minmax").find_ranges(model, names, signed=signed)
        return tuple(name for name in names if extremes[name][0] == extremes[name][1])

    def find_ranges(self, model: ir.Model, names: Sequence[str], *, signed: bool) -> Ranges:
        """The part of each value's range that int8 covers; from the cache if it is there."""
        file = self.folder / f"{self.cache_key(model, names, signed=signed)}.json"
        ranges = read_ranges(file, names)
        if ranges is None:
            histograms = observe_histograms(model, names, self.images)
            ranges = {name: CALIBRATORS[self.calibrator](histograms[name], signed) for name in names}
            write_cached(file, json.dumps(ranges).encode())
        return ranges

    def cache_key(self, model: ir.Model, names: Sequence[str], *, signed: bool) -> str:
        """sha256 of everything that decides the ranges: graph, weights, images, method, and the code of it."""
        facts = [self.digest, self.calibrator, signed, list(names), importlib.metadata.version("onnxruntime")]
        sha256 = hashlib.sha256(json.dumps(facts).encode())
        for name in SOURCE_FILES:
            sha256.update(Path(__file__).with_name(name).read_bytes())
        graph, weights = without_weights(model)
        sha256.update(graph.SerializeToString(deterministic=True))
        for tensor in weights.values():
            sha256.update(np.ascontiguousarray(tensor.numpy()).reshape(-1).view(np.uint8).data)
        return sha256.hexdigest()


def default_folder() -> Path:
    """`$XDG_CACHE_HOME/paraexport/calibration`, or in `~/.cache` if that is not set."""
    return cache_folder("calibration")


def read_ranges(file: Path, names: Sequence[str]) -> Ranges | None:
    """The cached ranges, or None if there are none, if they are damaged, or if they are for other values."""
    try:
        cached = json.loads(file.read_text(encoding="utf-8"))
        ranges = {name: (float(low), float(high)) for name, (low, high) in cached.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    sound = all(math.isfinite(low) and math.isfinite(high) and low <= high for low, high in ranges.values())
    return ranges if sound and ranges.keys() == {*names} else None
