"""Defines the dataclasses of `manifest.json` and `report.json`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

from paraexport.findings.answers import AnswerReport
from paraexport.findings.assumptions import Assumption
from paraexport.findings.branches import BranchReport
from paraexport.findings.checks import Accuracy, Check
from paraexport.findings.costs import CostReport
from paraexport.findings.graphs import CandidateTimes, Lowering, Rewrite, TensorInfo
from paraexport.findings.speed import FirstLook
from paraexport.model.spec import LOGITS, Preprocessing, Scores, Spec
from paraexport.targets.compilation import EngineInfo
from paraexport.targets.runtime import Runtime

SCHEMA = 2
"""The version of the form of `report.json`. It rises if the meaning of a field changes, not if a field is added."""


@dataclass(frozen=True)
class Source:
    """The file that a bundle was built from."""

    name: str
    sha256: str
    """The digest of the file. For an index, it covers the names and digests of its shards."""
    convention: str
    """The naming convention of the weights: `paraformer`, `released`, `timm`, …, or `module` for a traced module."""
    overrides: dict[str, str]
    """The fields given by `--spec`."""
    module: str | None = None
    """`FILE.py:FUNCTION` if the model came from `--module`."""
    weights: str | None = None
    """The copy of the weights that `--weights` chose."""
    renames: tuple[tuple[str, str], ...] = ()
    """The words in names of weights that `--rename` replaced, and the new words, in order."""
    branches: tuple[int, ...] | None = None
    """The numbers of the branches in the checkpoint that were kept, counted from 0; None if all were."""


@dataclass(frozen=True)
class FileEntry:
    sha256: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class FewerBranches:
    """A model with only the first branches, which the bundle holds beside the whole one. Both share their weights."""

    branches: int
    file: str
    """The model; its weights are in the file of weights of the whole model."""
    checks: tuple[Check, ...]
    """Against PyTorch with so many branches."""
    lowering: Lowering | None = None
    """None in float32."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What a bundle holds: the model, its images, its outputs, and how it was made."""

    paraexport: str
    source: Source
    target: str
    precision: str
    layout: str
    rewrites: tuple[Rewrite, ...]
    """The passes that turned the traced graph into this layout, in order."""
    lowering: Lowering | None = None
    """None in float32."""
    candidates: tuple[CandidateTimes, ...] = ()
    """The candidates that `auto` timed; empty if there was no choice."""
    runtime: Runtime | None = None
    """How a program opens the model. None in format 1, which does not record it."""
    fewer_branches: tuple[FewerBranches, ...] = ()
    """The smaller models, by ascending number of branches."""
    max_batch: int
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    scores: Scores = LOGITS
    """How the outputs become scores."""
    spec: Spec | None
    """None for a traced module that is not a known Para-Former."""
    versions: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Manifest(Subject):
    """Everything that a program needs to run a bundle. `docs/bundle.md` explains each field."""

    format: int
    digest: str
    """sha256 of this manifest's own bytes, with zeros in place of these 64 digits."""
    key: str
    """sha256 of everything that decides the bundle's content. Builds with equal keys give the same bundle."""
    assumptions: tuple[Assumption, ...]
    evidence: str
    """A description of the images that the checks ran on."""
    checks: tuple[Check, ...]
    files: dict[str, FileEntry]

    @property
    def subject(self) -> Subject:
        """The part that a report repeats."""
        return Subject(**{field.name: getattr(self, field.name) for field in dataclasses.fields(Subject)})


@dataclass(frozen=True, kw_only=True)
class Report:
    """How a build went: the content of `report.json`. `report.html` shows it and nothing else."""

    schema: int = 1
    """The version of this form, `SCHEMA`. Reports without this field have version 1."""
    bundle: str = ""
    """The name that the build gave to the bundle's folder."""
    command: str = ""
    """The command line that gives the same build, with the names of files but not their folders."""
    subject: Subject | None = None
    """What the bundle holds. Version 1 leaves this to the manifest."""
    created: str
    """UTC, ISO 8601."""
    machine: str
    stages_s: dict[str, float]
    """Seconds of each stage, in order."""
    export_s: float
    """The part of the stage `trace` that torch's own export took."""
    total_s: float
    evidence: str
    made_up: bool
    """Whether the checks ran on made-up images because none were given."""
    unreadable: tuple[str, ...]
    """One line for each file that was skipped."""
    accuracy: Accuracy | None
    """None without labels."""
    checks: tuple[Check, ...]
    assumptions: tuple[Assumption, ...]
    engine: EngineInfo | None = None
    """For targets that compile an engine."""
    warnings: tuple[str, ...] = ()
    """One sentence for each problem with the images or for each reason to trust the checks less."""
    first_look: FirstLook | None = None
    branches: BranchReport | None = None
    """None for values, and for a module that was not recognised as a Para-Former."""
    answers: AnswerReport | None = None
    """None if the engine could not run on the machine of the build."""
    costs: CostReport | None = None
    """None in version 1."""

    def problems(self) -> Iterator[str]:
        """Find contradictions that would make a page wrong or impossible, each as one clause."""
        if self.accuracy is not None and self.accuracy.images < 1:
            yield f"accuracy on {self.accuracy.images} images"
        if self.branches is not None:
            yield from self.branches.problems()
        if (subject := self.subject) is None:
            return
        yield from subject.preprocessing.problems()
        yield from subject.scores.problems(len(subject.labels))
        if subject.spec is not None:
            yield from subject.spec.problems()
        if self.answers is not None:
            yield from self.answers.problems(max(len(subject.labels), 2))
