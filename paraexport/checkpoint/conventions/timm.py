"""The names of timm's Block, with or without LayerScale."""

from __future__ import annotations

from paraexport.checkpoint.conventions.convention import QKV, Convention

TIMM = Convention(
    name="timm",
    modules={
        "norm1": "attention_norm",
        "attn.qkv": QKV,
        "attn.proj": "attention.output",
        "norm2": "feed_forward_norm",
        "mlp.fc1": "feed_forward.fc1",
        "mlp.fc2": "feed_forward.fc2",
    },
    parameters={"ls1.gamma": "attention_scale.weight", "ls2.gamma": "feed_forward_scale.weight"},
    eps=1e-6,
    residual="input",
    activation="gelu",
    norm="before",
)
