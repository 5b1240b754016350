"""The names of Hugging Face's ViT, releases 4 and 5."""

from __future__ import annotations

from paraexport.checkpoint.conventions.convention import Convention

HF = Convention(
    name="hf",
    modules={
        "layernorm_before": "attention_norm",
        "attention.attention.query": "attention.query",
        "attention.attention.key": "attention.key",
        "attention.attention.value": "attention.value",
        "attention.output.dense": "attention.output",
        "attention.q_proj": "attention.query",
        "attention.k_proj": "attention.key",
        "attention.v_proj": "attention.value",
        "attention.o_proj": "attention.output",
        "layernorm_after": "feed_forward_norm",
        "intermediate.dense": "feed_forward.fc1",
        "output.dense": "feed_forward.fc2",
        "mlp.fc1": "feed_forward.fc1",
        "mlp.fc2": "feed_forward.fc2",
    },
    parameters={},
    eps=1e-12,
    residual="input",
    activation="gelu",
    norm="before",
    pool="cls",
)
