"""Names the parts outside the branches: patch embedding, class token, position, last norm and head.

One table has the names of all conventions. A name counts if only well-known words come before it.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from paraexport.checkpoint.conventions.convention import is_number

PROJECTION = "embedding.patch.projection"
NORM_IN = "embedding.patch.norm_in"
NORM_OUT = "embedding.patch.norm_out"
CLASS_TOKEN = "embedding.class_token"  # noqa: S105
POSITION = "embedding.position"
NORM = "norm"
HEAD = "head"

PARAMETERS: Mapping[str, str] = {
    **dict.fromkeys(("cls_token", "class_token", "class_embedding", "cls"), CLASS_TOKEN),
    **dict.fromkeys(
        (
            "pos_embed",
            "pos_embedding",
            "pos_emb",
            "pos",
            "position",
            "position_embedding",
            "position_embeddings",
            "positional_embedding",
            "position_embeddings.weight",
            "pos_embed.weight",
            "pos_embedding.weight",
            "position_embedding.weight",
        ),
        POSITION,
    ),
}
MODULES: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(
        (
            "patch.projection",
            "patch_embed.proj",
            "patch_embed.projection",
            "patch_embed",
            "patch_embedding.proj",
            "patch_embedding.projection",
            "patch_embedding",
            "patch_embeddings.projection",
            "patch_to_embedding",
            "patch_proj",
            "to_patch_embedding",
            "to_patch_embedding.0",
            "to_patch_embedding.2",
            "conv_proj",
        ),
        (PROJECTION,),
    ),
    "to_patch_embedding.1": (PROJECTION, NORM_IN),
    "to_patch_embedding.3": (NORM_OUT,),
    "patch.norm_in": (NORM_IN,),
    "patch.norm_out": (NORM_OUT,),
    **dict.fromkeys(("norm", "layernorm", "layer_norm", "final_norm", "norm_final", "ln", "ln_f", "fc_norm"), (NORM,)),
    **dict.fromkeys(("mlp_head.0", "head.0", "classifier.0", "fc.0"), (HEAD, NORM)),
    **dict.fromkeys(("head", "mlp_head", "classifier", "fc"), (HEAD,)),
    **dict.fromkeys(("mlp_head.1", "head.1", "head.fc", "classifier.1", "fc.1"), (HEAD,)),
}
"""Name of a module -> its canonical name. Of two, the first has a matrix as its weight, the second a vector."""

NORM_AFTER_POOL = frozenset({"fc_norm", "mlp_head.0", "head.0", "classifier.0", "fc.0"})
WORDS = frozenset({
    "module", "_orig_mod", "model", "net", "network", "backbone", "encoder", "vit", "transformer", "embedding", "embed",
    "embeddings", "stem", "branches", "paraformer", "paratransformer", "paraformerbranches",
})  # fmt: skip
"""Words that may come before a name."""


def stem_names(tensors: Mapping[str, Tensor], words: frozenset[str]) -> dict[str, tuple[str, str]]:
    """Key -> (canonical name, original name), for every key of the stem and the head.

    Args:
        words: words that may come before a name, besides `WORDS`.
    """
    names = {}
    for key in tensors:
        steps = key.split(".")
        for start in range(len(steps)):
            named = stem_name(".".join(steps[start:]), ".".join(steps[:start]), tensors)
            if named is not None and all(step in WORDS | words or is_number(step) for step in steps[:start]):
                names[key] = named
                break
    return names


def stem_name(name: str, before: str, tensors: Mapping[str, Tensor]) -> tuple[str, str] | None:
    if name in PARAMETERS:
        return PARAMETERS[name], name
    module, _, leaf = name.rpartition(".")
    if leaf not in ("weight", "bias") or module not in MODULES:
        return None
    meanings = MODULES[module]
    weight = tensors.get(f"{before}.{module}.weight" if before else f"{module}.weight")
    vector = len(meanings) == 2 and weight is not None and weight.ndim == 1
    return f"{meanings[-1 if vector else 0]}.{leaf}", module


def aliases(canonical: str) -> list[str]:
    """All original names of a parameter of the stem, for messages."""
    if canonical in PARAMETERS.values():
        return [alias for alias, meaning in PARAMETERS.items() if meaning == canonical]
    module, _, leaf = canonical.rpartition(".")
    known = [alias for alias, meanings in MODULES.items() if module in meanings]
    # unambiguous names first
    return [f"{alias}.{leaf}" for alias in sorted(known, key=lambda alias: len(MODULES[alias]))]


def as_row(tensor: Tensor, canonical: str) -> Tensor:
    """Class token [D], [1, D] -> [1, 1, D]; position [N, D] -> [1, N, D]; other tensors unchanged."""
    if canonical == CLASS_TOKEN and tensor.ndim in (1, 2) and tensor.shape[:-1].numel() == 1:
        return tensor.reshape(1, 1, -1)
    if canonical == POSITION and tensor.ndim == 2:
        return tensor[None]
    return tensor
