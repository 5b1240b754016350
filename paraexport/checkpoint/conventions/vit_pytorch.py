"""The names of lucidrains/vit-pytorch, with the norm outside its PreNorm wrapper (new) or inside it (old)."""

from __future__ import annotations

from paraexport.checkpoint.conventions.convention import QKV, Convention

VIT_PYTORCH = Convention(
    name="vit-pytorch",
    modules={
        "0.norm": "attention_norm",
        "0.to_qkv": QKV,
        "0.to_out.0": "attention.output",
        "1.net.0": "feed_forward_norm",
        "1.net.1": "feed_forward.fc1",
        "1.net.4": "feed_forward.fc2",
    },
    parameters={},
    eps=1e-5,
    residual="input",
    activation="gelu",
    norm="before",
    head_dim=64,
    output_is_optional=True,
    patches_by_channel_last=True,
)

OLD_MODULES = {
    "0.norm": "attention_norm",
    "0.fn.to_qkv": QKV,
    "0.fn.to_out.0": "attention.output",
    "1.norm": "feed_forward_norm",
    "1.fn.net.0": "feed_forward.fc1",
    "1.fn.net.3": "feed_forward.fc2",
}
VIT_PYTORCH_OLD = Convention(
    name="vit-pytorch-old",
    modules=OLD_MODULES,
    parameters={},
    eps=1e-5,
    residual="input",
    activation="gelu",
    head_dim=64,
    output_is_optional=True,
    patches_by_channel_last=True,
)
