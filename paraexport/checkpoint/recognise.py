"""Is this module a Para-Former? Its weights say what may be, its own answers which of these it is.

What names and shapes leave open is searched: every candidate is built as a reference model and run beside the module on
the same images. Only one that agrees is taken for the module; where none does, the module is traced as it is.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from paraexport.checkpoint.blocks import find_blocks
from paraexport.checkpoint.build import build
from paraexport.checkpoint.canonical import Canonical, canonicalise
from paraexport.checkpoint.given import Given, Guesses
from paraexport.checkpoint.hints import hints
from paraexport.checkpoint.infer import infer_spec
from paraexport.checkpoint.names import strip_common_prefix
from paraexport.checkpoint.sizes import QUERY
from paraexport.checkpoint.stem import CLASS_TOKEN, NORM
from paraexport.checkpoint.weights import as_float32
from paraexport.errors import InputError
from paraexport.model.reference import ParaFormer
from paraexport.model.spec import Classifier, Spec

AGREEMENT = 1e-5
"""max |Δ logit| / max |logit|: float32 sums in another order reach about 1e-6."""
SECONDS = 10.0
"""A search that takes longer ends; the module is then traced as it is."""
EPSILONS = (1e-5, 1e-6, 1e-12)


@dataclass(frozen=True)
class Opaque:
    """A module of which nothing is known but its tensors and, perhaps, its input."""

    module: nn.Module
    tensors: Mapping[str, Tensor] | None = None
    """Its state dict, where the module's own has other names."""
    image_shape: tuple[int, int, int] | None = None
    """(channels, height, width)."""
    batch: int | None = None
    """The only number of images that it takes, where it takes only one."""
    state: dict[str, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        tensors = self.module.state_dict(keep_vars=True) if self.tensors is None else self.tensors
        object.__setattr__(self, "state", {name: tensor.detach() for name, tensor in tensors.items()})


@dataclass(frozen=True)
class Known:
    """A model and what is known of it: its spec where it is a Para-Former, else its input and output alone."""

    model: nn.Module
    classifier: Classifier
    convention: str
    mean_std: tuple[float, float] | None
    """Of the training script that the convention comes from."""
    original: nn.Module | None = None
    """The foreign module that `model` was found equal to, where it takes batches of any size."""


@dataclass(frozen=True)
class Unrecognised:
    """Why a module is traced as it is."""

    reason: str


def recognise(opaque: Opaque, said: Given) -> Known | Unrecognised:
    """The reference model that answers as the module does. What the user said is not searched over."""
    if isinstance(opaque.module, ParaFormer):
        return Known(opaque.module, opaque.module.spec, "paraformer", None)
    if opaque.image_shape is not None:
        channels, *size = opaque.image_shape
        said = said.over(Given(channels=channels, image_size=(size[0], size[1])))
    try:
        tensors = as_float32(strip_common_prefix(opaque.state), Guesses())
        blocks = find_blocks(tensors, said, Guesses())
        canonical = canonicalise(tensors, blocks)
    except InputError as error:
        return Unrecognised(error.what)
    model = closest(opaque, canonical, said)
    if isinstance(model, Unrecognised):
        return model
    original = opaque.module if opaque.batch is None else None
    return Known(model, model.spec, blocks.convention.name, blocks.convention.mean_std, original)


def closest(opaque: Opaque, canonical: Canonical, said: Given) -> ParaFormer | Unrecognised:
    """The closest model of the first group of candidates in which one agrees."""
    reference: list[tuple[Tensor, Tensor]] | None = None
    problem = ""
    deadline = time.monotonic() + SECONDS
    for group in candidates(opaque.module, canonical, said):
        best: tuple[float, ParaFormer | None] = (AGREEMENT, None)
        for choice in group:
            try:
                model = build(canonical, infer_spec(canonical, choice.over(said), Guesses()))
            except InputError as refused:
                problem = problem or refused.what
                continue
            reference = run(opaque, model.spec) if reference is None else reference
            if reference is None:
                image = "x".join(map(str, (model.spec.channels, *model.spec.image_size)))
                return Unrecognised(f"it does not run on images of {image}, or returns no [N, {model.spec.classes}]")
            error = largest_distance(model, reference)
            if error <= best[0]:
                best = error, model
        if best[1] is not None:
            return best[1]
        if time.monotonic() > deadline:
            return Unrecognised(f"no Para-Former with its answers was found within {SECONDS:g} s")
    if reference is None and problem:
        return Unrecognised(problem)
    return Unrecognised(
        "its weights fit a Para-Former, but no choice of heads, activation, residual, pool, norm and "
        "eps gives its answers"
    )


def largest_distance(model: ParaFormer, reference: list[tuple[Tensor, Tensor]]) -> float:
    """Over all images, or over the first ones with which the model disagrees: most candidates need no more."""
    largest = 0.0
    for images, logits in reference:
        error = distance(model, images, logits)
        if not error <= AGREEMENT:  # NaN is no agreement either
            return math.inf
        largest = max(largest, error)
    return largest


def candidates(module: nn.Module, canonical: Canonical, said: Given) -> Iterator[list[Given]]:
    """All that is open, the likely first; those that differ by eps alone are one group, of which the closest counts."""
    convention = canonical.blocks.convention
    query = canonical.tensors.get(QUERY)
    inner = query.shape[0] if query is not None and query.ndim else 0
    shown = hints(module, inner)
    tokens = CLASS_TOKEN in canonical.tensors
    norms: list[object] = ["after", "before"] if f"{NORM}.weight" in canonical.tensors else [None]
    open_fields: dict[str, list[object]] = {
        "heads": possible_heads(shown.heads, inner),
        "residual": first([convention.residual], ["input", "post", "normalized"]),
        "activation": first([*shown.activations, convention.activation], ["gelu", "relu", "gelu_tanh"]),
        "pool": ["cls", "patch_mean", "mean"] if tokens else ["mean"],
        "norm": norms,
    }
    choices = {name: values for name, values in open_fields.items() if getattr(said, name) is None}
    if said.head_dim is not None:
        choices.pop("heads", None)
    epsilons: list[float | None] = [None] if said.eps is not None else [*(shown.epsilons or EPSILONS)]
    # the last ones vary first: what no hint is about
    order = ("heads", "activation", "residual", "pool", "norm")
    names = [name for name in order if name in choices]
    for values in itertools.product(*(choices[name] for name in names)):
        fields = dict(zip(names, values, strict=True))
        yield [Given(**fields, eps=eps) for eps in epsilons]  # type: ignore[arg-type]


def first(likely: list[object], values: list[object]) -> list[object]:
    return list(dict.fromkeys([value for value in likely if value is not None] + values))


def possible_heads(shown: tuple[int, ...], inner: int) -> list[object]:
    """Divisors of heads × head_dim = `inner`: what the module shows, then head_dim 64, 32, … downwards."""
    divisors = [count for count in range(1, inner + 1) if inner % count == 0]
    return list(dict.fromkeys([*shown, *sorted(divisors, key=lambda count: abs(inner // count - 64))]))


def run(opaque: Opaque, spec: Spec) -> list[tuple[Tensor, Tensor]] | None:
    """Seeded images [N, C, H, W] and the module's logits for them; None where it does not take or give such.

    Small and large, bright and dark, several and one at a time, so that control flow on values and clipping are seen.
    """
    generator = torch.Generator().manual_seed(0)
    pairs = []
    for scale, offset in ((1.0, 0.0), (0.1, 1.0), (0.1, -1.0), (10.0, 0.0)):
        for batch in [opaque.batch] if opaque.batch else [1, 4]:
            images = scale * torch.randn(batch, spec.channels, *spec.image_size, generator=generator) + offset
            try:
                with torch.no_grad():
                    logits = opaque.module(images)
            except Exception:  # a foreign module may raise anything; it is then no Para-Former of these sizes
                return None
            if not isinstance(logits, Tensor) or logits.shape != (batch, spec.classes):
                return None
            pairs.append((images, logits))
    return pairs


def distance(model: ParaFormer, images: Tensor, logits: Tensor) -> float:
    with torch.no_grad():
        difference = (model(images) - logits).abs().max()
    return float(difference / logits.abs().max().clamp_min(1e-30))
