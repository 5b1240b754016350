"""Random Para-Formers, written under the names that each convention gives to its weights."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from paraexport.model.spec import Spec

Weights = dict[str, NDArray[np.float32]]
"""By the names of `paraexport.model.reference.ParaFormer`, as in `tests.reference`."""


def shapes(spec: Spec) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Every parameter of a model of `spec`."""
    patch = spec.channels * spec.patch_size[0] * spec.patch_size[1]
    conv = (spec.dim, spec.channels, *spec.patch_size)
    yield "embedding.patch.projection.weight", conv if spec.patch_projection == "conv" else (spec.dim, patch)
    yield "embedding.patch.projection.bias", (spec.dim,)
    if spec.patch_norms:
        yield from norm("embedding.patch.norm_in", patch)
        yield from norm("embedding.patch.norm_out", spec.dim)
    if spec.class_token:
        yield "embedding.class_token", (1, 1, spec.dim)
    yield "embedding.position", (1, spec.tokens, spec.dim)
    for branch in range(spec.branches):
        for layer in range(spec.depth):
            yield from ((f"branches.{branch}.layers.{layer}.{name}", shape) for name, shape in layer_shapes(spec))
    if spec.norm != "none":
        yield from norm("norm", spec.dim)
    yield from linear("head", spec.classes, spec.dim)


def layer_shapes(spec: Spec) -> Iterator[tuple[str, tuple[int, ...]]]:
    inner = spec.heads * spec.head_dim
    yield from norm("attention_norm", spec.dim)
    for part in ("query", "key", "value"):
        yield from linear(f"attention.{part}", inner, spec.dim, bias=spec.qkv_bias)
    yield from linear("attention.output", spec.dim, inner)
    yield from norm("feed_forward_norm", spec.dim)
    yield from linear("feed_forward.fc1", spec.mlp_dim, spec.dim)
    yield from linear("feed_forward.fc2", spec.dim, spec.mlp_dim)
    if spec.layer_scale:
        yield "attention_scale.weight", (spec.dim,)
        yield "feed_forward_scale.weight", (spec.dim,)


def norm(name: str, size: int) -> list[tuple[str, tuple[int, ...]]]:
    return [(f"{name}.weight", (size,)), (f"{name}.bias", (size,))]


def linear(name: str, outputs: int, inputs: int, *, bias: bool = True) -> list[tuple[str, tuple[int, ...]]]:
    return [(f"{name}.weight", (outputs, inputs)), (f"{name}.bias", (outputs,))][: 1 + bias]


def random_weights(spec: Spec, seed: int = 0) -> Weights:
    """Every weight of a model of `spec`: norms near one, matrices that keep the size of what they multiply."""
    generator = np.random.default_rng(seed)
    weights: Weights = {}
    for name, shape in shapes(spec):
        values = generator.standard_normal(shape)
        if "norm" in name and name.endswith(".weight"):
            values = 1 + 0.3 * values
        elif name.endswith(".bias"):
            values *= 0.3
        elif len(shape) in (2, 4):
            values *= np.prod(shape[1:]) ** -0.5
        weights[name] = values.astype(np.float32)
    return weights


@dataclass(frozen=True)
class Names:
    """One convention. A name is that of a module with weight and bias, or of one parameter whole.

    In `prefixes`, {l} counts branches and {m} layers; {a} = 2m and {f} = 2m + 1.
    """

    prefixes: tuple[str, ...]
    """Ways to number the blocks; one without {l} is for a single branch."""
    blocks: Mapping[str, str]
    stem: Mapping[str, str]
    packed: bool = True
    fixed: Mapping[str, object] = field(default_factory=dict)
    """Fields of the spec that these names can have in one way only."""
    usual: Mapping[str, object] = field(default_factory=dict)
    """Fields of the spec that go without saying."""

    def prefix(self, spec: Spec, number: int = 0) -> str:
        fitting = [prefix for prefix in self.prefixes if spec.branches == 1 or "{l}" in prefix]
        return fitting[number % len(fitting)]

    def write(self, weights: Weights, spec: Spec, number: int = 0) -> dict[str, NDArray[np.float32]]:
        """`weights` under these names, with the `number`-th way to number the blocks."""
        written: dict[str, NDArray[np.float32]] = {}
        for name, value in (pack(weights) if self.packed else weights).items():
            if not name.startswith("branches."):
                written[renamed(name, self.stem)] = value
                continue
            _, branch, _, layer, part = name.split(".", 4)
            m = int(layer)
            place = f"{self.prefix(spec, number)}.{renamed(part, self.blocks)}"
            written[place.format(l=branch, m=m, a=2 * m, f=2 * m + 1)] = value
        return written


def renamed(name: str, names: Mapping[str, str]) -> str:
    if name in names:
        return names[name]
    module, _, leaf = name.rpartition(".")
    return f"{names[module]}.{leaf}"


def pack(weights: Weights) -> Weights:
    """Query, key and value stacked to one `attention.qkv`."""
    packed: Weights = {}
    for name, value in weights.items():
        if ".attention.query." in name:
            parts = [weights[name.replace(".query.", f".{part}.")] for part in ("query", "key", "value")]
            packed[name.replace(".query.", ".qkv.")] = np.concatenate(parts)
        elif ".attention.key." not in name and ".attention.value." not in name:
            packed[name] = value
    return packed


def itself(*names: str) -> dict[str, str]:
    return {name: name for name in names}


NATIVE = Names(
    prefixes=("branches.{l}.layers.{m}",),
    blocks=itself(
        *("attention_norm", "attention.query", "attention.key", "attention.value", "attention.output"),
        *("feed_forward_norm", "feed_forward.fc1", "feed_forward.fc2", "attention_scale", "feed_forward_scale"),
    ),
    stem=itself(
        *("embedding.patch.projection", "embedding.patch.norm_in", "embedding.patch.norm_out"),
        *("embedding.class_token", "embedding.position", "norm", "head"),
    ),
    packed=False,
)
RELEASED = Names(
    prefixes=("paraformerbranches.branches.{l}", "paratransformer.blocks.{l}", "paraformer.blocks.{l}"),
    blocks={
        "attention_norm": "{a}.norm",
        "attention.qkv": "{a}.fn.to_qkv",
        "attention.output": "{a}.fn.to_out.0",
        "feed_forward_norm": "{f}.norm",
        "feed_forward.fc1": "{f}.fn.net.0",
        "feed_forward.fc2": "{f}.fn.net.3",
    },
    stem={
        "embedding.patch.projection": "to_patch_embedding.1",
        "embedding.class_token": "cls_token",
        "embedding.position": "pos_embedding",
        "norm": "mlp_head.0",
        "head": "mlp_head.1",
    },
    fixed={
        "patch_projection": "linear", "patch_norms": False, "class_token": True, "qkv_bias": False,
        "layer_scale": False, "head_dim": 64, "norm": "after",
    },
    usual={"residual": "normalized", "activation": "gelu", "eps": 1e-5, "pool": "cls"},
)  # fmt: skip
TIMM = Names(
    prefixes=("branches.{l}.{m}", "branches.{l}.blocks.{m}", "blocks.{m}.branches.{l}", "blocks.{m}"),
    blocks={
        "attention_norm": "norm1",
        "attention.qkv": "attn.qkv",
        "attention.output": "attn.proj",
        "feed_forward_norm": "norm2",
        "feed_forward.fc1": "mlp.fc1",
        "feed_forward.fc2": "mlp.fc2",
        "attention_scale.weight": "ls1.gamma",
        "feed_forward_scale.weight": "ls2.gamma",
    },
    stem={
        "embedding.patch.projection": "patch_embed.proj",
        "embedding.class_token": "cls_token",
        "embedding.position": "pos_embed",
        "norm": "norm",
        "head": "head",
    },
    fixed={"patch_projection": "conv", "patch_norms": False, "norm": "before"},
    usual={"residual": "input", "activation": "gelu", "eps": 1e-6},
)
VIT_PYTORCH = Names(
    prefixes=("transformers.{l}.layers.{m}", "branches.{l}.layers.{m}", "transformer.layers.{m}"),
    blocks={
        "attention_norm": "0.norm",
        "attention.qkv": "0.to_qkv",
        "attention.output": "0.to_out.0",
        "feed_forward_norm": "1.net.0",
        "feed_forward.fc1": "1.net.1",
        "feed_forward.fc2": "1.net.4",
    },
    stem={
        "embedding.patch.norm_in": "to_patch_embedding.1",
        "embedding.patch.projection": "to_patch_embedding.2",
        "embedding.patch.norm_out": "to_patch_embedding.3",
        "embedding.class_token": "cls_token",
        "embedding.position": "pos_embedding",
        "norm": "transformer.norm",
        "head": "mlp_head",
    },
    fixed={
        "patch_projection": "linear", "patch_norms": True, "class_token": True, "qkv_bias": False, "layer_scale": False,
        "norm": "before",
    },
    usual={"residual": "input", "activation": "gelu", "eps": 1e-5, "pool": "cls"},
)  # fmt: skip
VIT_PYTORCH_OLD = Names(
    prefixes=("transformers.{l}.layers.{m}", "branches.{l}.layers.{m}", "transformer.layers.{m}"),
    blocks={
        "attention_norm": "0.norm",
        "attention.qkv": "0.fn.to_qkv",
        "attention.output": "0.fn.to_out.0",
        "feed_forward_norm": "1.norm",
        "feed_forward.fc1": "1.fn.net.0",
        "feed_forward.fc2": "1.fn.net.3",
    },
    stem=RELEASED.stem,
    fixed={key: value for key, value in RELEASED.fixed.items() if key != "head_dim"},
    usual={"residual": "input", "activation": "gelu", "eps": 1e-5, "pool": "cls"},
)
TORCH = Names(
    prefixes=("branches.{l}.layers.{m}", "encoders.{l}.layers.{m}", "encoder.layers.{m}"),
    blocks={
        "attention_norm": "norm1",
        "attention.qkv.weight": "self_attn.in_proj_weight",
        "attention.qkv.bias": "self_attn.in_proj_bias",
        "attention.output": "self_attn.out_proj",
        "feed_forward_norm": "norm2",
        "feed_forward.fc1": "linear1",
        "feed_forward.fc2": "linear2",
    },
    stem={**TIMM.stem, "embedding.patch.projection": "patch_embedding", "head": "classifier"},
    fixed={"patch_norms": False, "qkv_bias": True, "layer_scale": False},
    usual={"eps": 1e-5},
)
HF_STEM = {
    "embedding.patch.projection": "vit.embeddings.patch_embeddings.projection",
    "embedding.class_token": "vit.embeddings.cls_token",
    "embedding.position": "vit.embeddings.position_embeddings",
    "norm": "vit.layernorm",
    "head": "classifier",
}
HF_FIXED: dict[str, object] = {
    "patch_projection": "conv", "patch_norms": False, "class_token": True, "layer_scale": False, "norm": "before",
}  # fmt: skip
HF_USUAL: dict[str, object] = {"residual": "input", "activation": "gelu", "eps": 1e-12, "pool": "cls"}
HF_OLD = Names(
    prefixes=("vit.branches.{l}.layer.{m}", "vit.encoder.layer.{m}"),
    blocks={
        "attention_norm": "layernorm_before",
        "attention.query": "attention.attention.query",
        "attention.key": "attention.attention.key",
        "attention.value": "attention.attention.value",
        "attention.output": "attention.output.dense",
        "feed_forward_norm": "layernorm_after",
        "feed_forward.fc1": "intermediate.dense",
        "feed_forward.fc2": "output.dense",
    },
    stem=HF_STEM,
    packed=False,
    fixed=HF_FIXED,
    usual=HF_USUAL,
)
HF_NEW = Names(
    prefixes=("vit.branches.{l}.layers.{m}", "vit.layers.{m}"),
    blocks={
        "attention_norm": "layernorm_before",
        "attention.query": "attention.q_proj",
        "attention.key": "attention.k_proj",
        "attention.value": "attention.v_proj",
        "attention.output": "attention.o_proj",
        "feed_forward_norm": "layernorm_after",
        "feed_forward.fc1": "mlp.fc1",
        "feed_forward.fc2": "mlp.fc2",
    },
    stem=HF_STEM,
    packed=False,
    fixed=HF_FIXED,
    usual=HF_USUAL,
)
CONVENTIONS: Mapping[str, tuple[Names, str]] = {
    "paraformer": (NATIVE, "paraformer"),
    "released": (RELEASED, "released"),
    "timm": (TIMM, "timm"),
    "vit-pytorch": (VIT_PYTORCH, "vit-pytorch"),
    "vit-pytorch-old": (VIT_PYTORCH_OLD, "vit-pytorch-old"),
    "torch": (TORCH, "torch"),
    "hf-old": (HF_OLD, "hf"),
    "hf-new": (HF_NEW, "hf"),
}
"""Names, and the name under which `Checkpoint.convention` reports them."""


def state_dict(weights: Mapping[str, NDArray[np.float32]]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(value.copy()) for name, value in weights.items()}


def saved(path: Path, content: object, *, legacy: bool = False) -> Path:
    """`content` as `torch.save` writes it, in the zip format or the one before."""
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


def saved_bytes(content: object, *, legacy: bool = False) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, _use_new_zipfile_serialization=not legacy)
    return stream.getvalue()
