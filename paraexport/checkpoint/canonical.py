"""Translates the names of a convention into those of `paraexport.model.reference.ParaFormer`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from paraexport.checkpoint.blocks import Blocks
from paraexport.checkpoint.conventions import QKV
from paraexport.checkpoint.stem import CLASS_TOKEN, NORM_AFTER_POOL, aliases, as_row, stem_names

ATTENTION_PARTS = ("query", "key", "value")


@dataclass(frozen=True)
class Canonical:
    """The tensors of a checkpoint under canonical names, and their original keys."""

    tensors: dict[str, Tensor]
    sources: Mapping[str, str]
    """Canonical name -> key in the checkpoint. If query, key and value are packed, three names have one key."""
    unexpected: Mapping[str, Tensor]
    """Keys that have no place in a Para-Former."""
    contradictions: tuple[str, ...]
    blocks: Blocks
    stem_aliases: frozenset[str]
    """The original names of modules of the stem and the head, e.g. `fc_norm`."""

    @property
    def norm_after_pool(self) -> bool:
        return bool(self.stem_aliases & NORM_AFTER_POOL)

    def source(self, name: str) -> str:
        """The key of `name` in the checkpoint. If it is missing, the key that it should have."""
        if name in self.sources or self.blocks.convention.is_complete:
            return self.sources.get(name, name)
        if not name.startswith("branches."):
            known = aliases(name)
            return f"{known[0]} (or {', '.join(known[1:4])})" if len(known) > 1 else name
        _, branch, _, layer, part = name.split(".", 4)
        wanted = {part, part.replace("query", "qkv").replace("key", "qkv").replace("value", "qkv")}
        spelled = [old for old, new in self.blocks.convention.parts.items() if new in wanted]
        prefix = self.blocks.prefixes.get((int(branch), int(layer)))
        return self.blocks.convention.key(prefix, spelled[0]) if spelled and prefix is not None else name


def canonicalise(tensors: Mapping[str, Tensor], blocks: Blocks) -> Canonical:
    """Give every tensor its canonical name. Tensors without one, and tensors that claim the same one, are listed."""
    stem = stem_names({key: tensor for key, tensor in tensors.items() if key not in blocks.parts}, blocks.words)
    canonical: dict[str, Tensor] = {}
    sources: dict[str, str] = {}
    unexpected: dict[str, Tensor] = {}
    contradictions = []
    for key, tensor in tensors.items():
        if key in blocks.parts:
            (branch, layer), part = blocks.parts[key]
            name = f"branches.{branch}.layers.{layer}.{blocks.convention.parts[part]}"
        elif key in stem:
            name = stem[key][0]
            if name == CLASS_TOKEN and not tensor.numel():
                continue  # vit-pytorch keeps an empty class token if it averages tokens
        else:
            unexpected[key] = tensor
            continue
        if QKV in name and (not tensor.ndim or tensor.shape[0] % 3):
            contradictions.append(f"{key} {shape(tensor)} does not hold query, key and value in equal parts")
            continue
        pieces = unpack(name, tensor)
        if taken := [sources[piece] for piece in pieces if piece in sources]:
            contradictions.append(describe_conflict(key, taken[0], name))
            continue
        canonical.update(pieces)
        sources.update(dict.fromkeys(pieces, key))
    return Canonical(
        tensors=canonical,
        sources=sources,
        unexpected=unexpected,
        contradictions=tuple(contradictions),
        blocks=blocks,
        stem_aliases=frozenset(alias for _, alias in stem.values()),
    )


def unpack(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """Split a packed tensor [3 · inner, …] into views of query, key and value. Other tensors keep their name."""
    if QKV not in name:
        return {name: as_row(tensor, name)}
    chunks = tensor.chunk(3)
    return {name.replace(QKV, f"attention.{part}"): chunk for part, chunk in zip(ATTENTION_PARTS, chunks, strict=True)}


def describe_conflict(key: str, earlier: str, name: str) -> str:
    if numberless(f".{key}") == numberless(f".{earlier}"):
        return f"{earlier} and {key}: each branch has its own {name}, but a Para-Former has one for the sum"
    return f"{earlier} and {key} are both {name}"


def numberless(name: str) -> str:
    """`branches.1.layers.0.attention.key.bias` -> `branches.#.layers.#.attention.key.bias`."""
    return re.sub(r"\.\d+\.", ".#.", name)


def shape(tensor: Tensor) -> list[int]:
    return list(tensor.shape)
