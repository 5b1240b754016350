"""The names of `paraexport.model.reference.ParaFormer` itself."""

from __future__ import annotations

from paraexport.checkpoint.conventions.convention import Convention

_MODULES = (
    "attention_norm",
    "attention.query",
    "attention.key",
    "attention.value",
    "attention.output",
    "feed_forward_norm",
    "feed_forward.fc1",
    "feed_forward.fc2",
)
_PARAMETERS = ("attention_scale.weight", "feed_forward_scale.weight")

NATIVE = Convention(
    name="paraformer",
    branched=True,
    modules={name: name for name in _MODULES},
    parameters={name: name for name in _PARAMETERS},
    is_complete=True,
    patches_by_channel_last=True,
)
