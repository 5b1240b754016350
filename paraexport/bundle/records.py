"""The dataclasses of `manifest.json` and `report.json`."""

from __future__ import annotations

from dataclasses import dataclass

from paraexport.findings.assumptions import Assumption
from paraexport.findings.checks import Accuracy, Check
from paraexport.findings.graphs import CandidateTimes, Lowering, Rewrite, TensorInfo
from paraexport.model.spec import LOGITS, Preprocessing, Scores, Spec
from paraexport.targets.compilation import EngineInfo
from paraexport.targets.runtime import Runtime


@dataclass(frozen=True)
class Source:
    """The file that a bundle was built from."""

    name: str
    sha256: str
    """Of the file; of an index and its shards, over their names and digests."""
    convention: str
    """Whose names the weights carry: `paraformer`, `released`, `timm`, …, or `module` for one traced as it is."""
    overrides: dict[str, str]
    """The fields given by `--spec`."""
    module: str | None = None
    """`FILE.py:FUNCTION`, where the model came from one."""
    weights: str | None = None
    """The copy of the weights that `--weights` chose."""


@dataclass(frozen=True)
class FileEntry:
    sha256: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Everything a program must know to run a bundle; `docs/bundle.md` explains each field."""

    format: int
    digest: str
    """sha256 of this manifest's own bytes, with these 64 digits read as zeros."""
    paraexport: str
    key: str
    """sha256 of everything that decides the bundle's content; equal keys mean that nothing needs rebuilding."""
    source: Source
    target: str
    precision: str
    layout: str
    rewrites: tuple[Rewrite, ...]
    """What made the layout of the traced graph, in order."""
    lowering: Lowering | None = None
    """None in float32."""
    candidates: tuple[CandidateTimes, ...] = ()
    """What `auto` chose from; empty where there was no choice."""
    runtime: Runtime | None = None
    """How a program opens the model. None in format 1, whose readers had to know that."""
    max_batch: int
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    scores: Scores = LOGITS
    """How the outputs become scores."""
    spec: Spec | None
    """None for a module that was traced as it is."""
    assumptions: tuple[Assumption, ...]
    evidence: str
    """The images that the checks ran on."""
    checks: tuple[Check, ...]
    versions: dict[str, str]
    files: dict[str, FileEntry]


@dataclass(frozen=True, kw_only=True)
class Report:
    """How a build went: `report.json`, and what `report.html` draws."""

    created: str
    """UTC, ISO 8601."""
    machine: str
    stages_s: dict[str, float]
    """Seconds of each stage, in order."""
    export_s: float
    """Of `trace`, what torch's own export took."""
    total_s: float
    evidence: str
    made_up: bool
    """The images of the checks were made up, since none were given."""
    unreadable: tuple[str, ...]
    """One line for each file that was skipped."""
    accuracy: Accuracy | None
    """None without labels."""
    checks: tuple[Check, ...]
    assumptions: tuple[Assumption, ...]
    engine: EngineInfo | None = None
    """Of a target that compiles."""
    warnings: tuple[str, ...] = ()
    """What weakens the evidence of the checks, or what does not fit, one sentence each."""
