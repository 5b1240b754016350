"""Recognises a module as a Para-Former, by comparing its answers with those of reference models.

Names and shapes of the weights leave some fields open. Every combination of them is a candidate: it is built as a
reference model, and runs on the same images as the module. If one agrees, it replaces the module. If none agrees, the
module is traced as it is.
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
"""The largest max |Δ logit| / max |logit|. float32 sums in another order reach about 1e-6."""
SECONDS = 10.0
"""The search stops after this time. The module is then traced as it is."""
EPSILONS = (1e-5, 1e-6, 1e-12)


@dataclass(frozen=True)
class Opaque:
    """A module whose tensors are known and, perhaps, the shape of its input, but nothing else."""

    module: nn.Module
    tensors: Mapping[str, Tensor] | None = None
    """Its state dict, if the module's own has other names."""
    image_shape: tuple[int, int, int] | None = None
    """(channels, height, width)."""
    batch: int | None = None
    """The only batch size that it takes, if it is fixed."""
    state: dict[str, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        tensors = self.module.state_dict(keep_vars=True) if self.tensors is None else self.tensors
        object.__setattr__(self, "state", {name: tensor.detach() for name, tensor in tensors.items()})


@dataclass(frozen=True)
class Known:
    """A model with its spec if it is a Para-Former, else with the shape of its input and output."""

    model: nn.Module
    classifier: Classifier
    convention: str
    mean_std: tuple[float, float] | None
    """Mean and std in the training script of the convention, if known."""
    original: nn.Module | None = None
    """The user's module that `model` agrees with, if it takes batches of any size."""


@dataclass(frozen=True)
class Unrecognised:
    """The reason why a module is traced as it is."""

    reason: str


def recognise(opaque: Opaque, given: Given) -> Known | Unrecognised:
    """The reference model that gives the same answers as the module. The search covers only fields not in `given`."""
    if isinstance(opaque.module, ParaFormer):
        return Known(opaque.module, opaque.module.spec, "paraformer", None)
    if opaque.image_shape is not None:
        channels, *size = opaque.image_shape
        given = given.over(Given(channels=channels, image_size=(size[0], size[1])))
    try:
        tensors = as_float32(strip_common_prefix(opaque.state), Guesses())
        blocks = find_blocks(tensors, given, Guesses())
        canonical = canonicalise(tensors, blocks)
    except InputError as error:
        return Unrecognised(error.what)
    model = closest(opaque, canonical, given)
    if isinstance(model, Unrecognised):
        return model
    original = opaque.module if opaque.batch is None else None
    return Known(model, model.spec, blocks.convention.name, blocks.convention.mean_std, original)


def closest(opaque: Opaque, canonical: Canonical, given: Given) -> ParaFormer | Unrecognised:
    """The closest model in the first group of candidates in which one agrees."""
    reference: list[tuple[Tensor, Tensor]] | None = None
    problem = ""
    deadline = time.monotonic() + SECONDS
    for group in candidates(opaque.module, canonical, given):
        best: tuple[float, ParaFormer | None] = (AGREEMENT, None)
        for choice in group:
            try:
                model = build(canonical, infer_spec(canonical, choice.over(given), Guesses()))
            except InputError as error:
                problem = problem or error.what
                continue
            reference = run(opaque, model.spec) if reference is None else reference
            if reference is None:
                image = "x".join(map(str, (model.spec.channels, *model.spec.image_size)))
                return Unrecognised(f"it does not run on images of {image}, or returns no [N, {model.spec.classes}]")
            difference = largest_distance(model, reference)
            if difference <= best[0]:
                best = difference, model
        if best[1] is not None:
            return best[1]
        if time.monotonic() > deadline:
            return Unrecognised(f"no Para-Former with the same answers was found within {SECONDS:g} s")
    if reference is None and problem:
        return Unrecognised(problem)
    return Unrecognised(
        "its weights fit a Para-Former, but no combination of heads, activation, residual, pool, norm and "
        "eps gives its answers"
    )


def largest_distance(model: ParaFormer, reference: list[tuple[Tensor, Tensor]]) -> float:
    """The largest difference over all images. It is infinite once the model disagrees: most candidates do at once."""
    largest = 0.0
    for images, logits in reference:
        difference = distance(model, images, logits)
        if not difference <= AGREEMENT:  # also for NaN
            return math.inf
        largest = max(largest, difference)
    return largest


def candidates(module: nn.Module, canonical: Canonical, given: Given) -> Iterator[list[Given]]:
    """All combinations of open fields, the likely ones first.

    Candidates that only differ in eps are one group: several may agree, and the closest is chosen.
    """
    convention = canonical.blocks.convention
    query = canonical.tensors.get(QUERY)
    inner = query.shape[0] if query is not None and query.ndim else 0
    hinted = hints(module, inner)
    tokens = CLASS_TOKEN in canonical.tensors
    norms: list[object] = ["after", "before"] if f"{NORM}.weight" in canonical.tensors else [None]
    open_fields: dict[str, list[object]] = {
        "heads": possible_heads(hinted.heads, inner),
        "residual": likely_first([convention.residual], ["input", "post", "normalized"]),
        "activation": likely_first([*hinted.activations, convention.activation], ["gelu", "relu", "gelu_tanh"]),
        "pool": ["cls", "patch_mean", "mean"] if tokens else ["mean"],
        "norm": norms,
    }
    choices = {name: values for name, values in open_fields.items() if getattr(given, name) is None}
    if given.head_dim is not None:
        choices.pop("heads", None)
    epsilons: list[float | None] = [None] if given.eps is not None else [*(hinted.epsilons or EPSILONS)]
    # the last fields vary fastest; there are no hints about them
    order = ("heads", "activation", "residual", "pool", "norm")
    names = [name for name in order if name in choices]
    for values in itertools.product(*(choices[name] for name in names)):
        fields = dict(zip(names, values, strict=True))
        yield [Given(**fields, eps=eps) for eps in epsilons]  # type: ignore[arg-type]


def likely_first(likely: list[object], values: list[object]) -> list[object]:
    return list(dict.fromkeys([value for value in likely if value is not None] + values))


def possible_heads(hinted: tuple[int, ...], inner: int) -> list[object]:
    """Divisors of heads × head_dim = `inner`: first those in hints, then those with head_dim closest to 64."""
    divisors = [count for count in range(1, inner + 1) if inner % count == 0]
    return list(dict.fromkeys([*hinted, *sorted(divisors, key=lambda count: abs(inner // count - 64))]))


def run(opaque: Opaque, spec: Spec) -> list[tuple[Tensor, Tensor]] | None:
    """Seeded images [N, C, H, W] and the module's logits for them; None if the module cannot run on them.

    The images are small and large, bright and dark, in batches and one by one. So control flow that depends on values,
    and clipping, change the answers.
    """
    generator = torch.Generator().manual_seed(0)
    pairs = []
    for scale, offset in ((1.0, 0.0), (0.1, 1.0), (0.1, -1.0), (10.0, 0.0)):
        for batch in [opaque.batch] if opaque.batch else [1, 4]:
            images = scale * torch.randn(batch, spec.channels, *spec.image_size, generator=generator) + offset
            try:
                with torch.no_grad():
                    logits = opaque.module(images)
            except Exception:  # the module may raise anything; then it is no Para-Former of these sizes
                return None
            if not isinstance(logits, Tensor) or logits.shape != (batch, spec.classes):
                return None
            pairs.append((images, logits))
    return pairs


def distance(model: ParaFormer, images: Tensor, logits: Tensor) -> float:
    """max |Δ logit| / max |logit|."""
    with torch.no_grad():
        difference = (model(images) - logits).abs().max()
    return float(difference / logits.abs().max().clamp_min(1e-30))
