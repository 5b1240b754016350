"""What a build found and made, as `manifest.json` and `report.json` hold it: frozen dataclasses between stages."""

from __future__ import annotations

from dataclasses import dataclass

from paraexport.model.spec import LOGITS, Assumption, Preprocessing, Scores, Spec
from paraexport.targets.compilation import EngineInfo


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of the artefact; a symbolic axis is written by its name."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class Check:
    """One comparison and its verdict. `passed` is None when it did not run; `reason` then says why."""

    name: str
    value: float | None
    limit: float
    unit: str
    samples: int
    passed: bool | None
    reason: str
    """Why the limit is what it is, that it was moved, or why the check did not run."""


@dataclass(frozen=True)
class Rewrite:
    """What one pass over the graph did."""

    name: str
    times: int
    """How often its identity was applied."""
    refusals: tuple[str, ...]
    """`node: reason`, one line for each place where it nearly applied."""


@dataclass(frozen=True)
class Candidate:
    """A target with a layout that `auto` tried on the machine of the build."""

    target: str
    layout: str
    latency_ms: dict[str, float]
    """Of one call, by batch size: the median over bursts in turn with the other candidates'."""
    chosen: bool
    failure: str = ""
    """Why it cannot be compiled or run, or in int8 is less accurate than others; then it has no latency."""


@dataclass(frozen=True)
class PartError:
    """What lowering one part alone does to the sum over branches, on the calibration images."""

    part: str
    """`branches.3`, or `branches.3/layers.1`."""
    error: float
    """‖Δz‖ / ‖z‖, z being the sum."""
    kept: bool
    """It stays in float32."""


@dataclass(frozen=True)
class Effect:
    """int8 with one more remedy against outliers."""

    remedy: str
    error: float
    """‖Δ logits‖ / ‖logits‖ on the calibration images, with all remedies up to this one."""


@dataclass(frozen=True)
class Lowering:
    """How the precision was lowered, and what that does where."""

    calibration: str
    """The images that scales and ranges were found on."""
    calibrator: str
    """How int8 scales were found; empty where there are none."""
    equalised: bool
    """Value channels were equalised before."""
    kept: tuple[str, ...]
    """Parts that stay in float32, by plan or by hand."""
    reason: str
    """Why these."""
    errors: tuple[PartError, ...]
    """Branch by branch, then layer by layer; empty where no names tell of branches."""
    additivity: float | None
    """‖Δz − Σ Δz_branch‖ / ‖Δz‖, which is rounding."""
    float32: tuple[str, ...]
    """`node: reason`, for each that would not fit the range of half."""
    products: dict[str, int]
    """Multiply-adds of one image, by name, of each product that is lowered."""
    linear_multiply_adds: int
    """Of all products by constants, lowered or not."""
    effects: tuple[Effect, ...] = ()
    """Of int8: what the remedies against outliers are worth."""
    rounding: float | None = None
    """Of half: max |Δ logit| / max |logit| with every rounding carried out, which CPU runtimes leave out."""
    constant: tuple[str, ...] = ()
    """Of int8: values that never varied on the calibration images, so that their scales are guesses."""


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
    candidates: tuple[Candidate, ...] = ()
    """What `auto` chose from; empty where there was no choice."""
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


@dataclass(frozen=True)
class Accuracy:
    """Top-1 on labelled images, in images."""

    images: int
    pytorch_correct: int
    engine_correct: int


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
