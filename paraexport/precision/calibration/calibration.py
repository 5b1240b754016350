"""The scales of a graph's activations, from calibration images; kept, so that the same question is answered at once."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from paraexport.graph.onnx_file import without_weights
from paraexport.precision.calibration.calibrators import CALIBRATORS, Scale, scale_for
from paraexport.precision.calibration.ranges import Images, observe
from paraexport.system.files import cache_folder

CODE = ("calibrators.py", "ranges.py")
Ends = dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Calibration:
    """How scales are found: on which images, by which calibrator."""

    images: Images
    digest: str
    """Of the images, their order and preprocessing."""
    calibrator: str
    folder: Path
    """Of what was found before."""
    origin: str
    """The images, as a report names them."""

    def scales(self, model: ir.Model, names: Sequence[str], *, signed: bool) -> dict[str, Scale]:
        """The scale of each of these values of a float32 graph."""
        ends = self.ends(model, names, signed=signed)
        return {name: scale_for(ends[name], signed=signed) for name in names}

    def constant(self, model: ir.Model, names: Sequence[str], *, signed: bool) -> tuple[str, ...]:
        """Those of these values that are one number on all images."""
        extremes = dataclasses.replace(self, calibrator="minmax").ends(model, names, signed=signed)
        return tuple(name for name in names if extremes[name][0] == extremes[name][1])

    def ends(self, model: ir.Model, names: Sequence[str], *, signed: bool) -> Ends:
        """The part of the range of each value that int8 is to cover."""
        file = self.folder / f"{self.key(model, names, signed=signed)}.json"
        ends = read(file, names)
        if ends is None:
            seen = observe(model, names, self.images)
            ends = {name: CALIBRATORS[self.calibrator](seen[name], signed) for name in names}
            write(file, ends)
        return ends

    def key(self, model: ir.Model, names: Sequence[str], *, signed: bool) -> str:
        """sha256 of all that decides the answer: weights and graph, images, method, and the code that computes."""
        facts = [self.digest, self.calibrator, signed, list(names), importlib.metadata.version("onnxruntime")]
        sha256 = hashlib.sha256(json.dumps(facts).encode())
        for name in CODE:
            sha256.update(Path(__file__).with_name(name).read_bytes())
        graph, weights = without_weights(model)
        sha256.update(graph.SerializeToString(deterministic=True))
        for tensor in weights.values():
            sha256.update(np.ascontiguousarray(tensor.numpy()).reshape(-1).view(np.uint8).data)
        return sha256.hexdigest()


def default_folder() -> Path:
    """`$XDG_CACHE_HOME/paraexport/calibration`, in `~/.cache` where that is not set."""
    return cache_folder("calibration")


def read(file: Path, names: Sequence[str]) -> Ends | None:
    """What is kept there, or None where it is damaged, or about other values."""
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        ends = {name: (float(low), float(high)) for name, (low, high) in kept.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    sound = all(math.isfinite(low) and math.isfinite(high) and low <= high for low, high in ends.values())
    return ends if sound and ends.keys() == {*names} else None


def write(file: Path, ends: Ends) -> None:
    """Keep an answer, whole or not at all; where that cannot be written, the next calibration takes its time again."""
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=file.parent) as beside:
            part = Path(beside) / file.name
            part.write_text(json.dumps(ends), encoding="utf-8")
            part.replace(file)
