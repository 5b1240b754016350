"""Describes a model and the preprocessing of its images: frozen dataclasses that pass between stages.

This module imports only the standard library, so every other module may import it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

INPUT, OUTPUT, BATCH = "images", "logits", "batch"
"""The names of the input, the output and the only symbolic axis of an exported graph."""
Residual = Literal["input", "normalized", "post"]
Activation = Literal["gelu", "gelu_tanh", "relu"]
Pool = Literal["cls", "mean", "patch_mean"]
NormPlace = Literal["before", "after", "none"]
PatchProjection = Literal["linear", "conv"]
MOST_COUNT = 10**6
"""Limit of channels, classes, heads and other counts. No model has nearly as many."""
MOST_PIXEL, LEAST_STD = 1e4, 1e-6
"""Limits of mean and std on the 0..1 scale. No model was trained with values outside of them."""
LONGEST_SIDE = 1 << 16
"""Limit of the side of an image, in pixels."""
ResizeOrder = Literal["horizontal_first"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
ScoreFunction = Literal["softmax", "sigmoid", "exp", "none"]
ScoreKind = Literal["exclusive", "independent", "ranking", "values"]
ScoreWord = Literal["softmax", "sigmoid", "exp", "none", "regression"]
"""The words in which an option or a config declares the outputs."""


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """The facts of a model that every stage after tracing needs, also if it is not a Para-Former.

    The model maps float32 images [N, channels, height, width] to logits [N, classes].
    """

    image_size: tuple[int, int]
    """(height, width) in pixels."""
    channels: int
    classes: int


@dataclass(frozen=True, kw_only=True)
class Spec(Classifier):
    """A whole Para-Former: `branches` branches of `depth` layers read the same tokens, and their outputs are summed.

    `residual` defines the skip of a layer. LN is the norm, f is the attention or the feed-forward:

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
    """The place of the last LayerNorm: before the pool, after it, or nowhere."""
    eps: float = 1e-5
    """Epsilon of every LayerNorm."""
    patch_projection: PatchProjection = "linear"
    """`linear` flattens a patch as (row, column, channel); `conv` is a Conv2d with stride = kernel."""
    patch_norms: bool = False
    """A LayerNorm before and after a linear patch projection."""
    class_token: bool = True
    qkv_bias: bool = True
    layer_scale: bool = False

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of patches."""
        return self.image_size[0] // self.patch_size[0], self.image_size[1] // self.patch_size[1]

    @property
    def tokens(self) -> int:
        """Tokens that every branch reads, the class token included."""
        return self.grid[0] * self.grid[1] + int(self.class_token)

    def problems(self) -> list[str]:
        """Every contradiction between the fields, each as one clause; empty if there is none."""
        counts = ("channels", "classes", "dim", "branches", "depth", "heads", "head_dim", "mlp_dim")
        problems = [
            f"{name} is {size}, expected 1 to {MOST_COUNT}"
            for name in counts
            if not 1 <= (size := getattr(self, name)) <= MOST_COUNT
        ]
        if max(self.image_size) > LONGEST_SIDE:
            size_text = " x ".join(map(str, self.image_size))
            problems.append(f"image_size is {size_text}, expected 1 to {LONGEST_SIDE} pixels")
        for side, image, patch in zip(("height", "width"), self.image_size, self.patch_size, strict=True):
            if patch < 1 or image < 1 or image % patch:
                problems.append(f"image {side} {image} is not a multiple of patch {side} {patch}")
        if self.pool == "cls" and not self.class_token:
            problems.append("pool=cls needs a class token, and the model has none")
        if self.patch_norms and self.patch_projection == "conv":
            problems.append("patch_norms needs patch_projection=linear")
        if not 0 < self.eps < 1:
            problems.append(f"eps is {self.eps}, expected a number between 0 and 1")
        return problems


def brief(values: tuple[float, ...]) -> str:
    """`0.485,0.456,0.406`."""
    return ",".join(f"{value:g}" for value in values)


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """The preprocessing of an image: convert to `channels`, resize, centre crop, scale to 0..1, normalise."""

    image_size: tuple[int, int]
    """(height, width) after the crop."""
    channels: int
    resize: tuple[int, int] | int
    """(height, width) exactly, or the length of the shorter side with the aspect ratio kept."""
    interpolation: Interpolation = "bilinear"
    resample: ResizeOrder = "horizontal_first"
    """Which side is resized first; in between, values are rounded to 8 bits."""
    mean: tuple[float, ...] = (0.5,)
    """One number, or one for each channel, on the 0..1 scale."""
    std: tuple[float, ...] = (0.5,)

    def problems(self) -> list[str]:
        """Every impossible value, each as one clause; empty if there is none."""
        resize = self.resize if isinstance(self.resize, tuple) else (self.resize,)
        sides = {"image_size": self.image_size, "resize": resize}
        problems = [
            f"{name} is {' x '.join(map(str, sizes))}, expected 1 to {LONGEST_SIDE} pixels"
            for name, sizes in sides.items()
            if not all(1 <= size <= LONGEST_SIDE for size in sizes)
        ]
        for name in ("mean", "std"):
            values = getattr(self, name)
            if len(values) not in (1, self.channels):
                problems.append(f"{name} has {len(values)} numbers for {self.channels} channels")
            if not all(abs(value) <= MOST_PIXEL for value in values):
                problems.append(f"{name} is {brief(values)}, expected numbers up to {MOST_PIXEL:g}")
        if not all(value >= LEAST_STD for value in self.std):
            problems.append(f"std is {brief(self.std)}, expected at least {LEAST_STD:g}")
        return problems


@dataclass(frozen=True)
class Scores:
    """What the outputs of a model mean, and how a program turns them into scores.

    The kinds of scores:

    - ``exclusive``: probabilities that sum to 1. The class with the largest one is the answer.
    - ``independent``: one probability for each class. A class is present from 0.5 on.
    - ``ranking``: numbers that are no probabilities. The class with the largest one is the answer.
    - ``values``: measured values, as in regression. There are no classes.
    """

    activation: ScoreFunction = "softmax"
    """The function that a program applies to the outputs; `none` if they are the scores already."""
    kind: ScoreKind = "exclusive"
    reason: str = ""
    """Where this comes from: an option, a config, or the end of the graph."""
    negative: str = ""
    """For a model with one output, the label for a probability below 0.5; empty if it has no name."""

    @property
    def probabilities(self) -> bool:
        return self.kind in ("exclusive", "independent")

    def problems(self, outputs: int) -> list[str]:
        """Every contradiction, each as one clause, for a model with this number of outputs."""
        kinds = {
            "softmax": ("exclusive",),
            "sigmoid": ("independent",),
            "exp": ("exclusive", "independent"),
            "none": ("exclusive", "independent", "ranking", "values"),
        }[self.activation]
        problems = []
        if self.kind not in kinds:
            problems.append(f"scores by {self.activation} are {self.kind}")
        if self.negative and outputs != 1:
            problems.append(f"a negative label for {outputs} outputs")
        return problems


LOGITS = Scores()
"""The default of bundles that do not record the meaning of their outputs: logits of classes, for softmax."""
