"""The names of torch.nn.TransformerEncoderLayer. They do not show norm_first and the activation."""

from __future__ import annotations

from paraexport.checkpoint.conventions.convention import QKV, Convention

TORCH = Convention(
    name="torch",
    modules={
        "self_attn.out_proj": "attention.output",
        "norm1": "attention_norm",
        "linear1": "feed_forward.fc1",
        "linear2": "feed_forward.fc2",
        "norm2": "feed_forward_norm",
    },
    parameters={"self_attn.in_proj_weight": f"{QKV}.weight", "self_attn.in_proj_bias": f"{QKV}.bias"},
    eps=1e-5,
)
