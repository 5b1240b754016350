"""Seeded models for targets. Each model is traced once, and each of its graphs is written once for all targets.

Tracing L = 16 takes 12 s on two CPUs, and int8 takes as long again. `benchmarks.gpu.check` has no time to repeat that
for every target.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.subjects import seeded_model
from paraexport import targets
from paraexport.checks.golden import answers
from paraexport.images.made_up import made_up_samples
from paraexport.model.reference import ParaFormer
from paraexport.model.spec import Preprocessing, Spec
from paraexport.pipeline import candidates
from paraexport.pipeline.options import Options
from paraexport.trace.trace import trace

BATCHES = (1, 32)
MAX_BATCH = max(BATCHES)


class Prepared:
    """A seeded model, its images and PyTorch's logits on the CPU. It creates `folder` for its files."""

    def __init__(self, spec: Spec, folder: Path) -> None:
        folder.mkdir()
        self.spec, self.folder = spec, folder
        self.graphs: dict[tuple[str, str, targets.Dialect], Path] = {}
        random = np.random.default_rng(0)
        self.images = random.standard_normal((MAX_BATCH, spec.channels, *spec.image_size), np.float32)

    @functools.cached_property
    def model(self) -> ParaFormer:
        return seeded_model(self.spec)

    @functools.cached_property
    def expected(self) -> NDArray[np.float32]:
        """PyTorch's logits [N, classes] for the images."""
        return answers(self.model)(self.images)

    @functools.cached_property
    def calibration(self) -> candidates.Images:
        spec = self.spec
        images = Preprocessing(image_size=spec.image_size, channels=spec.channels, resize=spec.image_size)
        samples = made_up_samples(images)
        logits = np.concatenate([answers(self.model)(batch) for batch in samples.batches(8)])
        return candidates.Images(samples, samples, logits)

    @functools.cached_property
    def traced(self) -> Path:
        path = self.folder / "traced/model.onnx"
        path.parent.mkdir(exist_ok=True)
        trace(self.model, self.spec, path)
        return path

    def graph(self, target: str, layout: str, precision: str) -> Path:
        """The folder with the graph for `target`. Copy it before you write to it: targets share it."""
        key = layout, precision, targets.get(target).dialect
        if key not in self.graphs:
            options = Options(target=target, precision=precision, layout=layout, max_batch=MAX_BATCH)
            work = self.folder / f"{target}-{layout}-{precision}"
            work.mkdir(exist_ok=True)
            (draft,) = candidates.write(self.traced, options, (target,), work, self.calibration)
            self.graphs[key] = draft.folder
        return self.graphs[key]


class Models:
    """Prepared models, each kept below `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.by_spec: dict[Spec, Prepared] = {}

    def get(self, spec: Spec) -> Prepared:
        if spec not in self.by_spec:
            self.by_spec[spec] = Prepared(spec, self.folder / str(len(self.by_spec)))
        return self.by_spec[spec]
