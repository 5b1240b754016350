"""Settles the spec: sizes from the shapes of tensors; other fields from options, configs, convention or assumption."""

from __future__ import annotations

from collections import Counter

from paraexport.checkpoint.canonical import Canonical, numberless, shape
from paraexport.checkpoint.given import ANOTHER, Given, Guesses
from paraexport.checkpoint.sizes import QUERY, head_fields, image_fields
from paraexport.checkpoint.stem import CLASS_TOKEN, HEAD, NORM, NORM_IN, POSITION, PROJECTION
from paraexport.errors import CheckpointError, SpecError, shortlist
from paraexport.findings.words import option_text
from paraexport.model.spec import Activation, Classifier, NormPlace, Pool, Residual, Spec

NEEDED = {
    QUERY: (2,),
    "branches.0.layers.0.feed_forward.fc1.weight": (2,),
    f"{PROJECTION}.weight": (2, 4),
    POSITION: (3,),
    f"{HEAD}.weight": (2,),
}
"""Tensors that sizes are read from, with their possible ranks."""


def infer_spec(canonical: Canonical, given: Given, guesses: Guesses) -> Spec:
    """Settle every field of the spec. `given` wins over the convention, and shapes win over both.

    Raises:
        CheckpointError: tensors that sizes are read from are missing.
        SpecError: fields are still open, or contradict the shapes. The message lists all open fields.
    """
    shapes = typical_shapes(canonical)
    inner, dim = shapes[QUERY]
    image_size, channels, patch_size = image_fields(canonical, shapes, given, guesses)
    heads, head_dim = head_fields(canonical, inner, dim, given, guesses)
    residual, activation, eps = layer_fields(canonical, given, guesses)
    pool, norm = pool_fields(canonical, given, guesses)
    guesses.raise_open()
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
    """Raise a `SpecError` that lists every option that contradicts `spec`."""
    wrong = [
        f"{field} is {option_text(getattr(spec, field))} in {settled_by}, but {option_text(value)} in --spec"
        for field, value in option.settled().items()
        if hasattr(spec, field) and getattr(spec, field) != value
    ]
    if wrong:
        remedy = "leave this option out" if len(wrong) == 1 else "leave these options out"
        raise SpecError("; ".join(wrong), remedy=remedy)


def typical_shapes(canonical: Canonical) -> dict[str, list[int]]:
    """The shape of each needed tensor. In blocks it is the most common one, so that one bad block does not decide."""
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
            f"the names are those of {canonical.blocks.convention.name}, but some tensors are wrong: "
            + "; ".join(f"{title}: {shortlist(items)}" for title, items in listed.items() if items),
            remedy=ANOTHER,
        )
    return shapes


def layer_fields(canonical: Canonical, given: Given, guesses: Guesses) -> tuple[Residual, Activation, float]:
    convention = canonical.blocks.convention
    torch_like = convention.name == "torch"
    why = "the default of torch.nn.TransformerEncoderLayer" if torch_like else "the names do not show it"
    residual: Residual = "post" if torch_like else "input"
    activation: Activation = "relu" if torch_like else "gelu"
    return (
        guesses.settle("residual", given.residual or convention.residual, residual, why),
        guesses.settle("activation", given.activation or convention.activation, activation, why),
        guesses.settle("eps", given.eps or convention.eps, 1e-5, why),
    )


def pool_fields(canonical: Canonical, given: Given, guesses: Guesses) -> tuple[Pool, NormPlace]:
    convention = canonical.blocks.convention
    pool: Pool
    if CLASS_TOKEN not in canonical.tensors:
        pool = guesses.settle("pool", given.pool, "mean", "there is no class token")
    elif "fc_norm" in canonical.stem_aliases:
        why = "timm has fc_norm if it averages the patches"
        pool = guesses.settle("pool", given.pool, "patch_mean", why)
    else:
        pool = guesses.settle("pool", given.pool or convention.pool, "cls", "there is a class token")
    return pool, norm_place(canonical, given, guesses, pool)


def norm_place(canonical: Canonical, given: Given, guesses: Guesses, pool: Pool) -> NormPlace:
    """The place of the last norm. In a model with several branches, the code after the sum is unknown."""
    convention = canonical.blocks.convention
    if f"{NORM}.weight" not in canonical.tensors:
        return guesses.settle("norm", given.norm, "none", "no tensor has the name of a norm before the head")
    if given.norm is not None:
        return given.norm
    if canonical.norm_after_pool:
        return "after"
    usual: NormPlace = convention.norm or ("after" if convention.name == "paraformer" else "before")
    # with pool=cls both places give the same function, since a LayerNorm treats each token separately
    if pool == "cls" or (convention.norm is not None and canonical.blocks.branches == 1):
        return usual
    why = f"the names do not show whether it is before or after pool={pool}"
    return guesses.assume("norm", usual, why)


def absent_biases(canonical: Canonical, guesses: Guesses) -> None:
    """Report the biases that are missing everywhere, since `build` sets them to zero."""
    if canonical.blocks.convention.is_complete:
        return
    present = {numberless(name) for name in canonical.tensors}
    queries = numberless(QUERY).removesuffix("weight")
    absent = []
    for name in sorted(present):
        module = name.removesuffix("weight")
        packed = module.startswith(queries.removesuffix("query.")) and not module.endswith(".output.")
        if module != name and f"{module}bias" not in present and not module.endswith("_scale."):
            # without a query bias, `qkv_bias` covers all three
            absent += [module.rstrip(".")] if not packed or f"{queries}bias" in present else []
    if absent:
        guesses.assume("bias", "zero", f"the checkpoint has none for {', '.join(absent)}")
    if norms := [name for name in absent if "norm" in name]:
        why = f"{', '.join(norms)} have no bias, so they could be RMSNorms; for RMSNorm, use --module"
        guesses.assume("norms", "LayerNorm", why)
