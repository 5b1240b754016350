"""The frozen dataclasses that pass between stages: what a model is, how its images are prepared, what was found.

Only the standard library is imported here, so that every module may import this one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Residual = Literal["input", "normalized", "post"]
Activation = Literal["gelu", "gelu_tanh", "relu"]
Pool = Literal["cls", "mean", "patch_mean"]
NormPlace = Literal["before", "after", "none"]
PatchProjection = Literal["linear", "conv"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """What every stage after tracing knows of a model, recognised or not.

    The model maps float32 images [N, channels, height, width] to logits [N, classes].
    """

    image_size: tuple[int, int]
    """(height, width) in pixels."""
    channels: int
    classes: int


@dataclass(frozen=True, kw_only=True)
class Spec(Classifier):
    """A Para-Former, whole: `branches` branches of `depth` layers read the same tokens and are summed.

    `residual` says what a layer's skip carries, with LN the norm and f the attention or the feed-forward:

    - ``input``: x + f(LN x), the usual pre-norm.
    - ``normalized``: u + f(u) with u = LN x, as in the code released with arXiv 2407.21670.
    - ``post``: LN(x + f(x)), the default of `torch.nn.TransformerEncoderLayer`.
    """

    patch_size: tuple[int, int]
    """(height, width) in pixels; divides `image_size`."""
    dim: int
    branches: int
    depth: int
    """Layers in each branch."""
    heads: int
    head_dim: int
    mlp_dim: int
    residual: Residual = "input"
    activation: Activation = "gelu"
    pool: Pool = "cls"
    """`cls` reads the class token, `mean` averages all tokens, `patch_mean` all but the class token."""
    norm: NormPlace = "after"
    """Where the last LayerNorm stands: before the pool, after it, or nowhere."""
    eps: float = 1e-5
    """Of every LayerNorm."""
    patch_projection: PatchProjection = "linear"
    """`linear` reads a patch as (row, column, channel); `conv` is a Conv2d with stride = kernel."""
    patch_norms: bool = False
    """A LayerNorm on each side of a linear patch projection."""
    class_token: bool = True
    qkv_bias: bool = True
    layer_scale: bool = False

    @property
    def grid(self) -> tuple[int, int]:
        """Patches down and across."""
        return self.image_size[0] // self.patch_size[0], self.image_size[1] // self.patch_size[1]

    @property
    def tokens(self) -> int:
        """Tokens that every branch reads, the class token included."""
        return self.grid[0] * self.grid[1] + int(self.class_token)

    def problems(self) -> list[str]:
        """Every contradiction between the fields, each as one clause; empty when there is none."""
        counts = ("channels", "classes", "dim", "branches", "depth", "heads", "head_dim", "mlp_dim")
        found = [f"{name} is {getattr(self, name)}, expected at least 1" for name in counts if getattr(self, name) < 1]
        for side, image, patch in zip(("height", "width"), self.image_size, self.patch_size, strict=True):
            if patch < 1 or image < 1 or image % patch:
                found.append(f"image {side} {image} is not a multiple of patch {side} {patch}")
        if self.pool == "cls" and not self.class_token:
            found.append("pool=cls needs a class token, and the model has none")
        if self.patch_norms and self.patch_projection == "conv":
            found.append("patch_norms needs patch_projection=linear")
        if not 0 < self.eps < 1:
            found.append(f"eps is {self.eps}, expected a number between 0 and 1")
        return found


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How an image becomes the model's input: convert to `channels`, resize, centre crop, scale to 0..1, normalise."""

    image_size: tuple[int, int]
    """(height, width) after the crop."""
    channels: int
    resize: tuple[int, int] | int
    """(height, width) exactly, or the length of the shorter side with the aspect ratio kept."""
    interpolation: Interpolation = "bilinear"
    mean: tuple[float, ...] = (0.5,)
    """One a channel, on the 0..1 scale."""
    std: tuple[float, ...] = (0.5,)


@dataclass(frozen=True)
class Assumption:
    """A field that neither the checkpoint nor the user settled; printed, and kept in the manifest."""

    field: str
    value: str
    reason: str


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
    """A target with a layout that `auto` timed on the machine of the build."""

    target: str
    layout: str
    latency_ms: dict[str, float]
    """Of one call, by batch size: the median over bursts in turn with the other candidates'."""
    chosen: bool
    failure: str = ""
    """Why it cannot run; then it has no latency."""


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


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """How a target compiles the graph; `docs/tensorrt.md` says what each costs, and which target takes it.

    None leaves the choice to the target.
    """

    compute_capabilities: tuple[str, ...] = ()
    """GPUs to compile for, `8.9`; empty for all that the target knows."""
    optimum_batch: int | None = None
    """Images in one run that kernels are chosen for; by default 8, or the largest batch where that is less."""
    workspace_mib: int | None = None
    """GPU memory that a kernel may use beside its inputs and outputs."""
    optimization_level: int | None = None
    """0 to 5: how long to search for faster kernels."""
    aux_streams: int | None = None
    """Streams beside the first, on which branches may run side by side."""
    version_compatible: bool = False
    """Runs on later versions of the runtime too."""
    hardware_compatible: bool = False
    """Runs on later GPUs too, of compute capability 8.0 and up."""
    stripped: bool = False
    """Leave out the weights: they are read from `model.onnx` when the engine is opened."""
    tf32: bool = False
    """Let float32 products round their inputs to 11 bits."""
    timing_cache: bool = True
    """Keep what was timed on this GPU for the next build."""


@dataclass(frozen=True)
class EngineLayer:
    """One layer of a compiled engine, which may be many nodes of the graph."""

    name: str
    kind: str
    outputs: tuple[str, ...]
    """The types of its outputs, in the words of the runtime."""
    inputs: tuple[str, ...]
    nodes: tuple[str, ...]
    """The ONNX nodes in it."""


@dataclass(frozen=True)
class Inspection:
    """What an engine became, read back from it on a GPU."""

    layers: tuple[EngineLayer, ...]
    aux_streams: int
    """That it uses; it may be fewer than were asked for."""
    memory_bytes: int
    """GPU memory of one execution context, beside weights, inputs and outputs."""


@dataclass(frozen=True, kw_only=True)
class EngineInfo:
    """What was compiled, by what and for what: `engine.json` beside `model.engine`."""

    runtime: str
    version: str
    """Of the runtime that compiled it."""
    built_for: tuple[str, ...]
    """Compute capabilities; empty for all that the runtime knows."""
    built_on: str
    """The GPU of the build; empty where there was none."""
    batches: tuple[int, int, int]
    """The fewest images in one run, those that kernels were chosen for, the most."""
    options: EngineOptions
    network_layers: int
    """In TensorRT's reading of the graph, before it fuses any."""
    products: dict[str, tuple[str, ...]]
    """The types that each product reads, by ONNX node, as the plan itself lists them; empty where it lists none."""
    fused_attention: bool
    """The plan holds a kernel that computes an attention at once."""
    size_bytes: int
    inspection: Inspection | None
    not_inspected: str
    """Why there is no inspection; empty where there is one."""
    warnings: tuple[str, ...]
    """What the compiler said."""


@dataclass(frozen=True)
class Source:
    """The file that a bundle was built from."""

    name: str
    sha256: str
    convention: str
    """Whose names the weights carry: `paraformer`, `released`, `timm`, …, or `module` for one traced as it is."""
    overrides: dict[str, str]
    """The fields given by `--spec`."""
    module: str | None = None
    """`FILE.py:FUNCTION`, where the model came from one."""


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
