"""The words of timm's `config.json`: its top level, its `model_args` (of VisionTransformer), its `pretrained_cfg`.

Source: timm 1.0.31, `models/vision_transformer.py`, `models/_pretrained.py` and `data/transforms_factory.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from paraexport.checkpoint.words.values import (
    activation,
    count,
    given_at_all,
    mlp_ratio,
    norm_at_all,
    norm_behind,
    pool,
    size,
    truth,
)
from paraexport.checkpoint.words.word import (
    LABELS,
    NOTHING,
    PIXELS,
    Word,
    applied,
    claimed,
    each,
    nested,
    only,
    reported,
)

TIMM_MODEL: Mapping[str, Word] = {
    "num_heads": applied("heads", count),
    "img_size": applied("image_size", size),
    "act_layer": applied("activation", activation),
    "global_pool": applied("pool", pool),
    "in_chans": claimed("channels", count),
    "num_classes": claimed("classes", count),
    "patch_size": claimed("patch_size", size),
    "embed_dim": claimed("dim", count),
    "depth": claimed("depth", count),
    "mlp_ratio": claimed("mlp_dim", mlp_ratio),
    "qkv_bias": claimed("qkv_bias", truth),
    "init_values": claimed("layer_scale", given_at_all),
    "class_token": claimed("class_token", truth),
    "fc_norm": claimed("norm", norm_behind),
    "final_norm": claimed("norm", norm_at_all),
    "pool_include_prefix": only(False, settled_by=("pool",)),
    "norm_layer": only("layernorm", "layer_norm", "LayerNorm", "layernormfp32"),
    "pos_embed": only("learn"),
    "reg_tokens": only(0, None),
    **each(("qk_norm", "scale_attn_norm", "scale_mlp_norm", "pre_norm"), only(False)),
    **each(("embed_norm_layer",), only(None)),
    "embed_layer": only("PatchEmbed"),
    "block_fn": only("Block"),
    "mlp_layer": only("Mlp", "mlp"),
    "attn_layer": only("Attention", "attention"),
    "dynamic_img_pad": only(False, settled_by=("resize",)),
    # the shapes of the weights show `no_embed_class`, their names show which biases exist
    **each(("no_embed_class", "proj_bias", "dynamic_img_size", "strict_img_size"), NOTHING),
    **each(
        (
            *("drop_rate", "pos_drop_rate", "patch_drop_rate", "proj_drop_rate", "attn_drop_rate", "drop_path_rate"),
            *("weight_init", "fix_init", "device", "dtype", "scriptable", "exportable", "no_jit", "pretrained"),
            *("checkpoint_path", "cache_dir", "features_only"),
        ),
        NOTHING,
    ),
}
TIMM_IMAGES: Mapping[str, Word] = {
    "input_size": applied("image_size", size),
    **each(("interpolation", "crop_pct", "crop_mode", "mean", "std", "crop_border_pixels", "fixed_input_size"), PIXELS),
    "num_classes": claimed("classes", count),
    "label_names": LABELS,
    "labels": LABELS,
    **each(("test_crop_pct", "test_input_size"), reported(None, why="the sizes from training are used")),
    "label_offset": reported(None, 0, why="classes are numbered as in the weights"),
    "custom_load": reported(False, "", why="the weights are read as they are"),
    **each(
        (
            *("url", "file", "state_dict", "hf_hub_id", "hf_hub_filename", "source", "architecture", "tag"),
            *("min_input_size", "pool_size", "test_pool_size", "first_conv", "classifier", "label_descriptions"),
            *("license", "description", "origin_url", "paper_name", "paper_ids", "notes"),
        ),
        NOTHING,
    ),
}
TIMM: Mapping[str, Word] = {
    **TIMM_IMAGES,
    **TIMM_MODEL,
    "architecture": PIXELS,
    "num_features": claimed("dim", count),
    "model_args": nested("timm_model"),
    "pretrained_cfg": nested("timm_images"),
    **each(("model_type", "library_name", "tags", "metadata"), NOTHING),
}
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CROP_PCT = 0.875
"""timm's own defaults, with bicubic, for fields that a `pretrained_cfg` lacks."""
ARCHITECTURES: tuple[tuple[str, str, object], ...] = (
    ("quickgelu", "act_layer", "quick_gelu"),
    ("patch32_siglip|large_patch16_siglip.*_512|so400m_patch16_siglip|giantopt.*siglip", "act_layer", "gelu_tanh"),
    ("_rpn_", "block_fn", "ResPostBlock"),
    ("_18x2_", "block_fn", "ParallelThingsBlock"),
    ("_xp_|_[dp]+wee_", "block_fn", "ParallelScalingBlock"),
    ("test_vit4", "norm_layer", "rmsnorm"),
)
"""(pattern, word, value): words that the name of an architecture implies. Its config need not repeat them."""
CLIP_EPS = re.compile("_clip_|^beit3")
"""Architectures whose norms have eps 1e-5. timm's own default is 1e-6."""


def implied(architecture: object) -> dict[str, object]:
    """The words of `model_args` that the name of an architecture implies."""
    if not isinstance(architecture, str):
        return {}
    return {word: value for pattern, word, value in ARCHITECTURES if re.search(pattern, architecture[:200])}
