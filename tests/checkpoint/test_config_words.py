"""Each word of each kind of config: applied, refused with the option that settles it, reported, or without effect.

The expected values are written by hand from the sources of transformers 5.24 and timm 1.0.31.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest

from paraexport.checkpoint.given import Guesses
from paraexport.checkpoint.load import Checkpoint, from_weights
from paraexport.checkpoint.overrides import parse_overrides
from paraexport.checkpoint.words import TABLES, ConfigKind
from paraexport.checkpoint.wrappers import Weights
from paraexport.errors import SpecError
from tests.checkpoint.test_conventions import usual_spec
from tests.checkpoint.writers import HF_NEW, TIMM, random_weights, state_dict

HF_SPEC, TIMM_SPEC = usual_spec(HF_NEW, depth=1), usual_spec(TIMM, depth=1)


@cache
def weights(kind: ConfigKind) -> Weights:
    names, spec = (TIMM, TIMM_SPEC) if kind.startswith("timm") else (HF_NEW, HF_SPEC)
    return Weights(state_dict(names.write(random_weights(spec), spec)))


def load(kind: ConfigKind, config: dict[str, Any], **options: str) -> Checkpoint:
    """A model of 8 x 8 pixels, 2 branches, 5 classes, and a config of this kind."""
    sources: dict[ConfigKind, dict[str, Any]] = {
        "hf": {"config.json": {"model_type": "vit", **config}},
        "hf_images": {"preprocessor_config.json": {"image_processor_type": "ViTImageProcessor", **config}},
        "timm": {"config.json": {"architecture": "vit_tiny", **config}},
        "timm_model": {"config.json": {"architecture": "vit_tiny", "model_args": config}},
        "timm_images": {"config.json": {"architecture": "vit_tiny", "pretrained_cfg": config}},
        "plain": {"args": config},
    }
    given = {"image_size": "8", **({} if {"heads", "head_dim"} & options.keys() else {"heads": "2"}), **options}
    given = {name: value for name, value in given.items() if value}
    return from_weights(weights(kind), sources[kind], parse_overrides(given), Guesses())


def value_of(loaded: Checkpoint, field: str) -> object:
    if field in ("labels", "scores"):
        return getattr(loaded, field)
    return getattr(loaded.spec if hasattr(loaded.spec, field) else loaded.preprocessing, field)


@dataclass(frozen=True)
class Case:
    kind: ConfigKind
    config: dict[str, Any]
    field: str = ""
    value: object = None
    """What the field becomes, where the word is applied."""
    says: str = ""
    """A part of the message, where it is refused or reported."""
    options: tuple[str, ...] = ()
    """What settles it, as `name=value`."""

    @property
    def word(self) -> str:
        return next(iter(self.config))

    def __str__(self) -> str:
        return f"{self.kind}-{self.word}"


APPLIED = (
    Case("hf", {"hidden_act": "relu"}, "activation", "relu"),
    Case("hf", {"hidden_act": "gelu_pytorch_tanh"}, "activation", "gelu_tanh"),
    Case("hf", {"layer_norm_eps": 1e-6}, "eps", 1e-6),
    Case("hf", {"num_attention_heads": 4}, "heads", 4),
    Case("hf", {"head_dim": 4}, "heads", 4),
    Case("hf", {"image_size": [4, 16]}, "image_size", (4, 16)),
    Case("hf", {"pool": "mean"}, "pool", "mean"),
    Case("hf", {"problem_type": "single_label_classification"}, "scores", "softmax"),
    Case("hf", {"problem_type": "multi_label_classification"}, "scores", "sigmoid"),
    Case("hf", {"problem_type": "regression"}, "scores", "regression"),
    Case("hf", {"id2label": dict(zip("01234", "abcde", strict=True))}, "labels", tuple("abcde")),
    Case("hf", {"label2id": {"b": 1, "a": 0, "c": "2", "e": 4, "d": 3}}, "labels", tuple("abcde")),
    Case("hf_images", {"size": 16}, "resize", (16, 16)),
    Case("hf_images", {"size": 16, "image_processor_type": "CLIPImageProcessor"}, "resize", 16),
    Case("hf_images", {"size": 16, "image_processor_type": "LevitImageProcessor"}, "resize", 18),
    Case("hf_images", {"size": 16, "image_processor_type": "ConvNextImageProcessor", "crop_pct": 0.8}, "resize", 20),
    Case("hf_images", {"size": {"shortest_edge": 16}}, "resize", 16),
    Case("hf_images", {"size": {"height": 8, "width": 12}}, "resize", (8, 12)),
    Case("hf_images", {"size": [8, 12]}, "resize", (8, 12)),
    Case("hf_images", {"resize": 16}, "resize", (16, 16)),
    Case("hf_images", {"default_to_square": False, "size": 16}, "resize", 16),
    Case("hf_images", {"image_processor_type": "DeiTImageProcessor"}, "resize", (256, 256)),
    Case("hf_images", {"feature_extractor_type": "BitFeatureExtractor", "image_processor_type": None}, "resize", 224),
    Case("hf_images", {"image_size": [4, 16]}, "image_size", (4, 16)),
    Case("hf_images", {"crop_size": [4, 16], "do_center_crop": True}, "image_size", (4, 16)),
    Case("hf_images", {"do_center_crop": False, "crop_size": [4, 16]}, "image_size", (8, 8)),
    Case("hf_images", {"crop_pct": 0.5, "image_processor_type": None}, "resize", 16),
    Case("hf_images", {"crop_mode": "squash", "crop_pct": 0.5, "image_processor_type": None}, "resize", (16, 16)),
    *(
        Case("hf_images", {"resample": code}, "interpolation", name)
        for code, name in enumerate(("nearest", "lanczos", "bilinear", "bicubic"))
    ),
    Case("hf_images", {"resample": "PILImageResampling.BICUBIC"}, "interpolation", "bicubic"),
    Case("hf_images", {"interpolation": "bicubic"}, "interpolation", "bicubic"),
    Case("hf_images", {"image_mean": [0.1, 0.2, 0.3]}, "mean", (0.1, 0.2, 0.3)),
    Case("hf_images", {"image_std": 0.25}, "std", (0.25,) * 3),
    Case("hf_images", {"mean": 0.25}, "mean", (0.25,) * 3),
    Case("hf_images", {"std": 0.25}, "std", (0.25,) * 3),
    Case("hf_images", {"do_normalize": False, "image_std": 0.5}, "std", (1.0,) * 3),
    Case("hf_images", {"do_rescale": False, "image_mean": 102.0, "image_std": 51.0}, "mean", (0.4,) * 3),
    Case("hf_images", {"do_rescale": False, "image_mean": 102.0, "image_std": 51.0}, "std", (0.2,) * 3),
    # pixel/127.5 - 1 is (pixel/255 - 0.5)/0.5
    Case("hf_images", {"rescale_factor": 1 / 127.5, "image_mean": 1.0, "image_std": 1.0}, "mean", (0.5,) * 3),
    Case(
        "hf_images",
        {
            "rescale_offset": True,
            "rescale_factor": 1 / 127.5,
            "do_normalize": False,
            "include_top": False,
            "image_processor_type": "EfficientNetImageProcessor",
        },
        "mean",
        (0.5,) * 3,
    ),
    Case(
        "hf_images",
        {"include_top": True, "image_std": 0.5, "image_processor_type": "EfficientNetImageProcessor"},
        "std",
        (0.25,) * 3,
    ),
    Case(
        "hf_images",
        {"include_top": False, "image_std": 0.5, "image_processor_type": "EfficientNetImageProcessor"},
        "std",
        (0.5,) * 3,
    ),
    Case("timm_model", {"num_heads": 4}, "heads", 4),
    Case("timm_model", {"img_size": [4, 16]}, "image_size", (4, 16), options=("resize=4x16",)),
    Case("timm_model", {"act_layer": "gelu_tanh"}, "activation", "gelu_tanh"),
    Case("timm_model", {"global_pool": "avg"}, "pool", "patch_mean"),
    Case("timm_images", {"input_size": [3, 8, 8], "crop_pct": 0.5}, "image_size", (8, 8)),
    Case("timm_images", {"fixed_input_size": True, "input_size": [3, 8, 8]}, "image_size", (8, 8)),
    Case("timm_images", {"interpolation": "lanczos"}, "interpolation", "lanczos"),
    Case("timm_images", {"crop_pct": 0.8}, "resize", 10),
    Case("timm_images", {"crop_pct": 0.9}, "resize", 8),
    Case("timm_images", {"mean": [0.5]}, "resize", 9),  # timm's default of crop_pct is 0.875
    Case("timm_images", {"crop_mode": "squash", "crop_pct": 0.8}, "resize", (10, 10)),
    Case("timm_images", {"mean": [0.1, 0.2, 0.3]}, "mean", (0.1, 0.2, 0.3)),
    Case("timm_images", {"std": [0.1, 0.2, 0.3]}, "std", (0.1, 0.2, 0.3)),
    Case("timm_images", {"label_names": list("abcde")}, "labels", tuple("abcde")),
    Case("timm_images", {"labels": list("abcde")}, "labels", tuple("abcde")),
    Case("timm_images", {"crop_border_pixels": 0, "crop_pct": 0.8}, "resize", 10),
    Case("timm", {"architecture": "vit_base_patch16_siglip_gap_224"}, "activation", "gelu"),
    Case("timm", {"architecture": "vit_base_patch32_siglip_gap_256"}, "activation", "gelu_tanh"),
    Case("timm", {"architecture": "vit_base_patch16_clip_224"}, "eps", 1e-5),
    Case("timm", {"architecture": "vit_base_patch16_224"}, "eps", 1e-6),
    Case("timm", {"global_pool": "avg"}, "pool", "patch_mean"),
    Case("plain", {"residual": "post"}, "residual", "post"),
    Case("plain", {"norm_first": False}, "residual", "post"),
    Case("plain", {"norm": "none"}, "norm", "none"),
    Case("plain", {"resize": 12}, "resize", 12),
    Case("plain", {"size": [8, 12]}, "resize", (8, 12)),
    Case("plain", {"image_mean": [0.1, 0.2, 0.3]}, "mean", (0.1, 0.2, 0.3)),
    Case("plain", {"mean": 0.25}, "mean", (0.25,) * 3),
    Case("plain", {"std": 0.25}, "std", (0.25,) * 3),
    Case("plain", {"image_std": 0.25}, "std", (0.25,) * 3),
    Case("plain", {"do_normalize": False}, "std", (1.0,) * 3),
    Case("plain", {"interpolation": "nearest"}, "interpolation", "nearest"),
    Case("plain", {"resample": 3}, "interpolation", "bicubic"),
    Case("plain", {"crop_pct": 0.8}, "resize", 10),
    Case("plain", {"crop_mode": "squash", "crop_pct": 0.8}, "resize", (10, 10)),
    Case("plain", {"do_rescale": False, "mean": 102.0, "std": 51.0}, "mean", (0.4,) * 3),
    Case("plain", {"rescale_factor": 1 / 127.5, "mean": 1.0, "std": 1.0}, "mean", (0.5,) * 3),
    *(
        Case("plain", {word: list("abcde")}, "labels", tuple("abcde"))
        for word in ("labels", "label_names", "class_names")
    ),
    Case("plain", {"id2label": dict(zip(range(5), "abcde", strict=True))}, "labels", tuple("abcde")),
    Case("plain", {"label2id": dict(zip("abcde", range(5), strict=True))}, "labels", tuple("abcde")),
    *(
        Case("plain", {word: value}, field, expected)
        for field, value, expected, words in (
            ("image_size", [4, 16], (4, 16), "image_size img_size input_size crop_size"),
            ("heads", 4, 4, "heads num_heads num_attention_heads nhead n_heads n_head"),
            ("head_dim", 4, 4, "head_dim dim_head"),
            ("activation", "relu", "relu", "hidden_act activation act act_layer"),
            ("pool", "mean", "mean", "pool global_pool pooling"),
            ("eps", 1e-6, 1e-6, "layer_norm_eps norm_eps eps"),
        )
        for word in words.split()
    ),
)


@pytest.mark.parametrize("case", APPLIED, ids=str)
def test_a_word_is_applied(case: Case) -> None:
    options = dict(option.split("=") for option in case.options)
    if case.field == "image_size":
        options |= {"image_size": ""}
    if case.field in ("heads", "head_dim"):
        options |= {"heads": ""}
    if case.field == "norm":
        with pytest.raises(Exception, match="unexpected"):  # these weights have a norm
            load(case.kind, case.config, **options)
        return
    found = value_of(load(case.kind, case.config, **options), case.field)
    close = case.field in ("mean", "std")
    assert found == (pytest.approx(case.value, rel=1e-12) if close else case.value)


REFUSED = (
    Case("hf", {"hidden_act": "quick_gelu"}, says="not supported", options=("activation=gelu",)),
    Case("hf", {"layer_norm_eps": 0}, says="between 0 and 1", options=("eps=1e-5",)),
    Case("hf", {"id2label": dict(zip("12345", "abcde", strict=True))}, says="count from 1", options=("labels=FILE",)),
    Case("hf", {"id2label": {"0": "a", "2": "b"}}, says="1 is missing", options=("labels=FILE",)),
    Case("hf", {"id2label": {"0": "a", 0: "b"}}, says="got 0", options=("labels=FILE",)),
    Case("hf", {"label2id": {"a": 0, "b": 0}}, says="both class 0", options=("labels=FILE",)),
    Case(
        "hf",
        {"id2label": {"0": "a", "1": "b"}, "label2id": {"a": 1, "b": 0}},
        says="contradict",
        options=("labels=FILE",),
    ),
    Case("hf", {"id2label": {"0": "a\nb"}}, says="one line", options=("labels=FILE",)),
    Case("hf", {"id2label": 5}, says="contains no labels", options=("labels=FILE",)),
    Case("hf", {"use_mean_pooling": True}, says="not supported", options=("pool=mean",)),
    *(
        Case("hf", {word: value}, says="not supported")
        for word, value in {
            "use_swiglu_ffn": True,
            "use_relative_position_bias": True,
            "use_shared_relative_position_bias": True,
            "use_qk_norm": True,
            "use_absolute_position_embeddings": False,
            "num_register_tokens": 4,
            "pruned_heads": {"0": [1]},
        }.items()
    ),
    Case("hf_images", {"do_resize": False}, says="not supported", options=("resize=8",)),
    Case("hf_images", {"do_resize": "no"}, says="neither true nor false", options=("resize=8",)),
    Case("hf_images", {"size": {"shortest_edge": 8, "longest_edge": 16}}, says="not supported", options=("resize=8",)),
    Case("hf_images", {"size": {"longest_edge": 16}}, says="not supported", options=("resize=8",)),
    Case(
        "hf_images",
        {"size": 16, "image_processor_type": "SiglipImageProcessor"},
        says="a square or",
        options=("resize=8",),
    ),
    Case(
        "hf_images", {"crop_mode": "border", "image_processor_type": None}, says="not supported", options=("resize=8",)
    ),
    Case("hf_images", {"resample": 4}, says="not supported", options=("interpolation=bicubic",)),
    Case(
        "hf_images",
        {"do_rescale": False, "image_mean": 0.5, "image_std": 0.5},
        says="another scale",
        options=("mean=0.5", "std=0.5"),
    ),
    Case(
        "hf_images",
        {"image_mean": [127.5] * 3, "image_std": [51.0] * 3},
        says="--spec mean=0.5,0.5,0.5",
        options=("mean=0.5", "std=0.2"),
    ),
    Case("hf_images", {"image_std": [0.0] * 3}, says="positive numbers", options=("std=0.5",)),
    Case("hf_images", {"do_flip_channel_order": True}, says="BGR"),
    Case("hf_images", {"image_processor_type": "MobileViTImageProcessor"}, says="BGR"),
    *(
        Case("hf_images", {word: True}, says="not supported", options=("resize=8",))
        for word in (
            "do_pad",
            "do_thumbnail",
            "do_align_long_axis",
            "do_image_splitting",
            "keep_aspect_ratio",
            "do_rotate",
            "do_crop_margin",
        )
    ),
    *(
        Case("hf_images", {word: 32}, says="not supported", options=("resize=8",))
        for word in ("pad_size", "size_divisor", "max_size")
    ),
    Case("hf_images", {"use_square_size": True}, says="not supported", options=("resize=8",)),
    Case("hf_images", {"do_grayscale": True}, says="not supported", options=("channels=3",)),
    *(
        Case("hf_images", {word: "channels_last"}, says="not supported")
        for word in ("data_format", "input_data_format")
    ),
    Case("timm_images", {"crop_mode": "border"}, says="not supported", options=("resize=8",)),
    Case("timm_images", {"crop_pct": 1.5}, says="not supported", options=("resize=8",)),
    Case("timm_images", {"crop_border_pixels": 4}, says="not supported", options=("resize=8",)),
    Case("timm_images", {"interpolation": "random"}, says="not supported", options=("interpolation=bicubic",)),
    Case(
        "timm_images",
        {"mean": [127.5] * 3, "std": [51.0] * 3},
        says="--spec std=0.2,0.2,0.2",
        options=("mean=0.5", "std=0.2"),
    ),
    Case("timm_images", {"label_names": {"0": "a", "7": "b"}}, says="1 is missing", options=("labels=FILE",)),
    Case("timm_model", {"act_layer": "quick_gelu"}, says="not supported", options=("activation=gelu",)),
    *(
        Case("timm_model", {"global_pool": pool}, says="not supported", options=("pool=cls",))
        for pool in ("", "avgmax", "max", "map", "prr")
    ),
    Case("timm_model", {"pool_include_prefix": True}, says="not supported", options=("pool=mean",)),
    Case("timm_model", {"dynamic_img_pad": True}, says="not supported", options=("resize=8",)),
    *(
        Case("timm_model", {word: value}, says="not supported")
        for word, value in {
            "norm_layer": "rmsnorm",
            "pos_embed": "none",
            "reg_tokens": 4,
            "qk_norm": True,
            "scale_attn_norm": True,
            "scale_mlp_norm": True,
            "pre_norm": True,
            "embed_norm_layer": "layernorm",
            "embed_layer": "hybrid",
            "block_fn": "ResPostBlock",
            "mlp_layer": "swiglu",
            "attn_layer": "diff",
        }.items()
    ),
    Case(
        "timm", {"architecture": "vit_base_patch32_clip_quickgelu_224"}, says="quick_gelu", options=("activation=gelu",)
    ),
    Case("timm", {"architecture": "vit_base_patch16_rpn_224"}, says="ResPostBlock"),
    Case("hf", {"problem_type": "ranking"}, says="not supported", options=("scores=none",)),
    Case("plain", {"activation": "swish"}, says="not supported", options=("activation=gelu",)),
    Case("plain", {"mean": [127.5] * 3, "std": [51.0] * 3}, says="0..255", options=("mean=0.5", "std=0.2")),
    Case("plain", {"do_rescale": False}, says="another scale", options=("mean=0.5", "std=0.2")),
    Case("plain", {"rescale_offset": True}, says="not supported", options=("mean=0.5", "std=0.2")),
    Case("plain", {"do_resize": False}, says="not supported", options=("resize=8",)),
    Case("plain", {"do_flip_channel_order": True}, says="BGR"),
    *(Case("plain", {word: True}, says="not supported") for word in ("qk_norm", "reg_tokens", "num_registers")),
    Case("plain", {"norm_layer": "batchnorm"}, says="not supported"),
    Case("plain", {"labels": {"1": "a"}}, says="count from 1", options=("labels=FILE",)),
    Case("plain", {"depth": 2, "heads": 2, "num_heads": 4}, says="contradict", options=("heads=2",)),
)


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_a_word_is_refused_until_an_option_settles_it(case: Case, tmp_path: Any) -> None:
    options = {"heads": ""} if case.options == ("heads=2",) else {}
    with pytest.raises(SpecError) as caught:
        load(case.kind, case.config, **options)
    message = str(caught.value)
    assert case.says in message
    assert "\n" not in message
    if not case.options:
        assert "--module FILE.py:FUNCTION" in message
        return
    (labels := tmp_path / "labels").write_text("a\nb\nc\nd\ne")
    settled = dict(option.replace("FILE", str(labels)).split("=") for option in case.options)
    assert all(f"--spec {name}=" in message for name in settled)
    load(case.kind, case.config, **options | settled)


CLAIMS: dict[ConfigKind, dict[str, object]] = {
    "hf": {
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 3,
        "num_branches": 3,
        "num_channels": 1,
        "num_labels": 6,
        "patch_size": 2,
        "qkv_bias": False,
    },
    "timm_model": {
        "in_chans": 1,
        "num_classes": 6,
        "patch_size": 2,
        "embed_dim": 32,
        "depth": 3,
        "mlp_ratio": 4.0,
        "qkv_bias": False,
        "init_values": 1e-5,
        "class_token": False,
        "fc_norm": True,
        "final_norm": False,
    },
    "timm_images": {"num_classes": 6},
    "timm": {"num_features": 32},
    "plain": {
        **dict.fromkeys(["channels", "num_channels", "in_chans", "in_channels"], 1),
        **dict.fromkeys(
            ["branches", "num_branches", "n_branches", "depth", "num_hidden_layers", "num_layers", "n_layers"], 3
        ),
        **dict.fromkeys(
            ["dim", "embed_dim", "hidden_size", "d_model", "mlp_dim", "intermediate_size", "dim_feedforward"], 32
        ),
        **dict.fromkeys(["classes", "num_classes", "n_classes", "num_labels"], 6),
        "patch_size": 2,
        "mlp_ratio": 4.0,
        "qkv_bias": False,
        "class_token": False,
        "layer_scale": True,
    },
}
"""What the weights settle otherwise: dim 16, MLP 24, 2 branches of depth 1, 3 channels, patches of 4 x 4, 5 classes."""
REPORTED = (
    Case("hf", {"model_type": "beit"}, says="may differ from those of a ViT"),
    Case("hf", {"architectures": ["BeitForImageClassification"]}, says="may differ from those of a ViT"),
    Case("hf", {"auto_map": {"AutoModel": "model.Model"}}, says="no code is run"),
    Case("hf", {"quantization_config": {"bits": 4}}, says="as they are"),
    Case("hf", {"id2label": dict(zip("01234", "abcca", strict=True))}, says="2 names belong to several classes"),
    Case("hf_images", {"auto_map": {"AutoProcessor": "images.Images"}}, says="no code is run"),
    Case("hf_images", {"image_processor_type": "OwnImageProcessor"}, says="its steps are unknown"),
    Case("hf_images", {"crop_pct": 0.9}, says="does not read it"),
    Case("hf_images", {"crop_pct": 0.9, "image_processor_type": "a\nb"}, says="this processor does not read it"),
    Case("hf_images", {"rescale_offset": True}, says="does not read it"),
    Case("hf_images", {"size": 16, "do_center_crop": False}, says="does not crop"),
    Case("hf_images", {"size": {"shortest_edge": 16}, "do_center_crop": True}, says="one pixel apart"),
    Case("timm_images", {"test_crop_pct": 1.0}, says="sizes from training"),
    Case("timm_images", {"test_input_size": [3, 16, 16]}, says="sizes from training"),
    Case("timm_images", {"label_offset": 1}, says="as in the weights"),
    Case("timm_images", {"custom_load": "hf"}, says="as they are"),
    Case("plain", {"loss": "bce"}, says="exclude each other"),
    Case("plain", {"size": 16}, says="assumed to be the shorter side"),
    Case("plain", {"size": "large"}, says="not the size of an image"),
    Case("plain", {"mean": "harmonic"}, says="not a list of numbers"),
    Case("plain", {"labels": 5}, says="contains no labels"),
    *(
        Case(kind, {word: value}, says=" in the weights")
        for kind, words in CLAIMS.items()
        for word, value in words.items()
    ),
    *(Case(kind, {"sharpen": 3}, says="sharpen=3 is unknown") for kind in TABLES),
)


@pytest.mark.parametrize("case", REPORTED, ids=str)
def test_a_word_is_reported(case: Case) -> None:
    loaded = load(case.kind, case.config)
    lines = [item.reason for item in loaded.assumptions if case.says in item.reason]
    assert len(lines) == 1
    assert not any("\n" in item.reason for item in loaded.assumptions)
    assert case.word in lines[0] or case.says in (
        "does not crop",
        "one pixel apart",
        "2 names belong to several classes",
    )


NESTED = {"timm": {"model_args", "pretrained_cfg"}}


@pytest.mark.parametrize("kind", TABLES)
def test_every_word_of_the_table_has_a_case(kind: ConfigKind) -> None:
    tried = {word for case in (*APPLIED, *REFUSED, *REPORTED) if case.kind == kind for word in case.config}
    if kind == "timm":  # an old config has all words at its top
        tried |= {
            word for case in (*APPLIED, *REFUSED, *REPORTED) if case.kind.startswith("timm_") for word in case.config
        }
    effective = {name for name, word in TABLES[kind].items() if word.treatment not in ("nothing", "nested")}
    assert effective <= tried


@pytest.mark.parametrize("kind", TABLES)
def test_words_without_effect_change_nothing_and_are_not_mentioned(kind: ConfigKind) -> None:
    silent = [name for name, word in TABLES[kind].items() if word.treatment == "nothing"]
    plain, loaded = load(kind, {}), load(kind, dict.fromkeys(silent, 0.3))
    assert (loaded.spec, loaded.preprocessing, loaded.labels) == (plain.spec, plain.preprocessing, plain.labels)
    assert loaded.assumptions == plain.assumptions


ASSUMED = {"mean", "std", "resize", "interpolation", "join", "labels"}


def test_a_config_that_agrees_with_the_weights_is_not_mentioned() -> None:
    config = {
        "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_channels": 3, "num_labels": 5,
        "patch_size": [4, 4], "qkv_bias": True, "num_branches": 2,
    }  # fmt: skip
    assert {item.field for item in load("hf", config).assumptions} == ASSUMED
    all_layers = {**config, "num_hidden_layers": 2}  # of both branches
    assert {item.field for item in load("hf", all_layers).assumptions} == ASSUMED


def test_what_a_processor_does_without_a_word_is_taken_from_it_and_said() -> None:
    loaded = load("hf_images", {"image_processor_type": "CLIPImageProcessor", "size": 8, "crop_size": 8})
    assert loaded.preprocessing.mean == (0.48145466, 0.4578275, 0.40821073)
    assert loaded.preprocessing.interpolation == "bicubic"
    reasons = {item.field: item.reason for item in loaded.assumptions}
    assert reasons["mean"] == reasons["interpolation"] == "the default of CLIPImageProcessor"


def test_timm_covers_an_image_that_is_no_square_in_a_way_of_its_own() -> None:
    config = {"input_size": [3, 4, 16], "crop_pct": 0.8}
    with pytest.raises(SpecError, match="--spec resize=5x20"):
        load("timm_images", config, image_size="")
    assert load("timm_images", {**config, "crop_mode": "squash"}, image_size="").preprocessing.resize == (5, 20)
    assert load("timm_images", config, image_size="", resize="5x20").preprocessing.resize == (5, 20)


def test_a_fixed_size_of_the_model_wins_over_the_size_of_its_images_as_in_timm() -> None:
    config = {"architecture": "vit_tiny", "model_args": {"img_size": 8}, "pretrained_cfg": {"input_size": [3, 4, 16]}}
    given = parse_overrides({"heads": "2"})
    with pytest.raises(SpecError, match="contradict each other"):
        from_weights(weights("timm"), {"config.json": config}, given, Guesses())
    config["pretrained_cfg"]["fixed_input_size"] = True  # type: ignore[index]
    loaded = from_weights(weights("timm"), {"config.json": config}, given, Guesses())
    assert loaded.preprocessing.image_size == (8, 8)


@pytest.mark.parametrize(
    "args",
    [
        {"dataset": {"mean": [0.1307], "std": [0.3081]}},
        {"test": {"resize": 40}},
        {"augment": {"interpolation": "nearest"}},
        {"init": {"activation": "relu"}},
        {"opt": {"name": "adamw", "eps": 1e-3}},
        {"optimizer": "adamw", "eps": 1e-8},
        {"lr": 0.1, "eps": 1e-3},
        {"data": {"size": 50000}},
    ],
    ids=str,
)
def test_words_that_may_mean_something_else_are_reported_and_not_followed(args: dict[str, Any]) -> None:
    plain, loaded = load("plain", {}), load("plain", args)
    assert (loaded.spec, loaded.preprocessing) == (plain.spec, plain.preprocessing)
    assert any("unknown and ignored" in item.reason for item in loaded.assumptions)


def test_words_of_an_optimizer_alone_are_not_mentioned() -> None:
    args = {"optimizer": {"lr": 0.1, "eps": 1e-8}, "val": {"batch_size": 3}}
    assert load("plain", args).assumptions == load("plain", {}).assumptions


@pytest.mark.parametrize(("field", "other"), [("mean", [0.7] * 3), ("std", [0.7] * 3)])
def test_two_words_for_mean_or_std_that_disagree_are_refused(field: str, other: list[float]) -> None:
    agreeing = load("hf_images", {f"image_{field}": other, field: other})
    assert getattr(agreeing.preprocessing, field) == tuple(other)
    with pytest.raises(SpecError, match=f"contradict each other.*--spec {field}"):
        load("hf_images", {f"image_{field}": [0.2] * 3, field: other})
