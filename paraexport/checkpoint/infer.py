"""The spec that canonical tensors imply: sizes from their shapes, the rest from words, the convention, or assumed."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from paraexport.checkpoint.canonical import Canonical, numberless, shape
from paraexport.checkpoint.given import ANOTHER, Given, Guesses, truncated
from paraexport.checkpoint.sizes import QUERY, head_fields, image_fields
from paraexport.checkpoint.stem import CLASS_TOKEN, HEAD, NORM, NORM_IN, POSITION, PROJECTION
from paraexport.errors import CheckpointError, SpecError
from paraexport.findings.words import option_text
from paraexport.model.spec import Activation, Classifier, NormPlace, Pool, Residual, Spec

NEEDED = {
    QUERY: (2,),
    "branches.0.layers.0.feed_forward.fc1.weight": (2,),
    f"{PROJECTION}.weight": (2, 4),
    POSITION: (3,),
    f"{HEAD}.weight": (2,),
}
"""Without these no size can be read; with the ranks they can have."""


def infer_spec(canonical: Canonical, said: Given, guesses: Guesses) -> Spec:
    """Settle every field of the spec; `said` wins over the convention, and the shapes win over both.

    Raises:
        CheckpointError: the tensors that sizes are read from are missing.
        SpecError: a field that nothing settles (all of them at once), or one that contradicts the shapes.
    """
    shapes = typical_shapes(canonical)
    inner, dim = shapes[QUERY]
    image_size, channels, patch_size = image_fields(canonical, shapes, said, guesses)
    heads, head_dim = head_fields(canonical, inner, dim, said, guesses)
    residual, activation, eps = layer_fields(canonical, said, guesses)
    pool, norm = pool_fields(canonical, said, guesses)
    guesses.raise_missing()
    absent_biases(canonical, guesses)
    has = canonical.tensors.__contains__
    spec = Spec(
        image_size=image_size,
        channels=channels,
        classes=shapes[f"{HEAD}.weight"][0],
        patch_size=patch_size,
        dim=dim,
        branches=canonical.blocks.branches,
        depth=canonical.blocks.depth,
        heads=heads,
        head_dim=head_dim,
        mlp_dim=shapes["branches.0.layers.0.feed_forward.fc1.weight"][0],
        residual=residual,
        activation=activation,
        pool=pool,
        norm=norm,
        eps=eps,
        patch_projection="conv" if len(shapes[f"{PROJECTION}.weight"]) == 4 else "linear",
        patch_norms=has(f"{NORM_IN}.weight"),
        class_token=has(CLASS_TOKEN),
        qkv_bias=any(name.endswith("attention.query.bias") for name in canonical.tensors),
        layer_scale=any(name.endswith("attention_scale.weight") for name in canonical.tensors),
    )
    if problems := spec.problems():
        raise SpecError("; ".join(problems))
    return spec


def check_agreement(spec: Classifier, option: Given, *, settled_by: str) -> None:
    """Raise a `SpecError` that lists every option which says otherwise than `spec`."""
    wrong = [
        f"{field} is {option_text(getattr(spec, field))} in {settled_by}, and --spec says {option_text(value)}"
        for field, value in option.settled().items()
        if hasattr(spec, field) and getattr(spec, field) != value
    ]
    if wrong:
        raise SpecError("; ".join(wrong), remedy="leave these options out")


def typical_shapes(canonical: Canonical) -> dict[str, list[int]]:
    """The shape of each needed tensor; of those in blocks the most common, so that one bad block does not decide."""
    shapes: dict[str, list[int]] = {}
    for name, ranks in NEEDED.items():
        part = name.removeprefix("branches.0.layers.0.")
        alike = [tensor for key, tensor in canonical.tensors.items() if key == name or key.endswith(f".{part}")]
        sizes = Counter(tuple(tensor.shape) for tensor in alike if tensor.ndim in ranks)
        if sizes:
            shapes[name] = list(sizes.most_common(1)[0][0])
    missing = [canonical.source(name) for name in NEEDED if name not in shapes]
    misshaped = [
        f"{canonical.source(name)} {shape(canonical.tensors[name])}"
        for name in NEEDED
        if name not in shapes and name in canonical.tensors
    ]
    if missing or canonical.contradictions:
        listed = {
            "missing or misshaped": missing,
            "got": misshaped,
            "unexpected": [f"{key} {shape(tensor)}" for key, tensor in canonical.unexpected.items()],
            "contradicting": list(canonical.contradictions),
        }
        raise CheckpointError(
            f"the names are those of {canonical.blocks.convention.name}, but not all of them: "
            + "; ".join(f"{title}: {truncated(items)}" for title, items in listed.items() if items),
            remedy=ANOTHER,
        )
    return shapes


def layer_fields(canonical: Canonical, said: Given, guesses: Guesses) -> tuple[Residual, Activation, float]:
    convention = canonical.blocks.convention
    torch_like = convention.name == "torch"
    why = "the default of torch.nn.TransformerEncoderLayer" if torch_like else "the names do not say"
    residual: Residual = "post" if torch_like else "input"
    activation: Activation = "relu" if torch_like else "gelu"
    return (
        guesses.settle("residual", said.residual or convention.residual, residual, why),
        guesses.settle("activation", said.activation or convention.activation, activation, why),
        guesses.settle("eps", said.eps or convention.eps, 1e-5, why),
    )


def pool_fields(canonical: Canonical, said: Given, guesses: Guesses) -> tuple[Pool, NormPlace]:
    convention = canonical.blocks.convention
    pool: Pool
    if CLASS_TOKEN not in canonical.tensors:
        pool = guesses.settle("pool", said.pool, "mean", "there is no class token")
    elif "fc_norm" in canonical.stem_aliases:
        why = "timm has fc_norm where it averages the patches"
        pool = guesses.settle("pool", said.pool, "patch_mean", why)
    else:
        pool = guesses.settle("pool", said.pool or convention.pool, "cls", "there is a class token")
    return pool, norm_place(canonical, said, guesses, pool)


def norm_place(canonical: Canonical, said: Given, guesses: Guesses, pool: Pool) -> NormPlace:
    """Where the last norm stands; what follows `pool` in a model of several branches is code that nobody has seen."""
    convention = canonical.blocks.convention
    if f"{NORM}.weight" not in canonical.tensors:
        return guesses.settle("norm", said.norm, "none", "no name is that of a norm before the head")
    if said.norm is not None:
        return said.norm
    if canonical.norm_after_pool:
        return "after"
    usual: NormPlace = convention.norm or ("after" if convention.name == "paraformer" else "before")
    # with pool=cls both places are the same function, since a LayerNorm takes each token by itself
    if pool == "cls" or (convention.norm is not None and canonical.blocks.branches == 1):
        return usual
    why = f"the names do not say whether it stands before or after pool={pool}"
    return guesses.assume("norm", usual, why)


def absent_biases(canonical: Canonical, guesses: Guesses) -> None:
    """Say aloud which biases are nowhere, since `build` then takes them for zero."""
    if canonical.blocks.convention.is_complete:
        return
    present = {numberless(name) for name in canonical.tensors}
    queries = numberless(QUERY).removesuffix("weight")
    absent = []
    for name in sorted(present):
        module = name.removesuffix("weight")
        packed = module.startswith(queries.removesuffix("query.")) and not module.endswith(".output.")
        if module != name and f"{module}bias" not in present and not module.endswith("_scale."):
            # without a query bias `qkv_bias` says it of all three
            absent += [module.rstrip(".")] if not packed or f"{queries}bias" in present else []
    if absent:
        guesses.assume("bias", "zero", f"there is none of {', '.join(absent)}")
    if norms := [name for name in absent if "norm" in name]:
        why = f"{', '.join(norms)} have no bias, as an RMSNorm has none; for RMSNorm give the model with --module"
        guesses.assume("norms", "LayerNorm", why)


def first_branches(spec: Spec, count: int) -> Spec:
    """The spec of the first `count` branches alone; SpecError where there are fewer."""
    if not 1 <= count <= spec.branches:
        raise SpecError(f"cannot keep {count} branches", expected=f"1..{spec.branches}")
    return replace(spec, branches=count)
