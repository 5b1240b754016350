"""The words of Hugging Face's `preprocessor_config.json`, and the defaults of each image processor."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from paraexport.checkpoint.given import Size
from paraexport.checkpoint.words.values import size
from paraexport.checkpoint.words.word import NOTHING, PIXELS, Word, applied, each, only, reported
from paraexport.model.spec import Interpolation

HF_IMAGES: Mapping[str, Word] = {
    **each(
        (
            *("image_processor_type", "feature_extractor_type", "default_to_square"),
            *("do_resize", "size", "resample", "interpolation", "resize", "crop_pct", "crop_mode"),
            *("do_center_crop", "crop_size", "do_rescale", "rescale_factor", "rescale_offset", "include_top"),
            *("do_normalize", "image_mean", "image_std", "mean", "std", "do_flip_channel_order"),
        ),
        PIXELS,
    ),
    "image_size": applied("image_size", size),
    **each(
        (
            "use_square_size",
            "do_pad",
            "do_thumbnail",
            "do_align_long_axis",
            "do_image_splitting",
            "keep_aspect_ratio",
            "do_rotate",
        ),
        only(False, settled_by=("resize",)),
    ),
    **each(("pad_size", "size_divisor", "max_size"), only(None, settled_by=("resize",))),
    "do_crop_margin": only(False, settled_by=("resize",)),
    "do_grayscale": only(False, settled_by=("channels",)),
    **each(("data_format", "input_data_format"), only("channels_first")),
    "auto_map": reported({}, why="the preprocessing has its own code, and no code is run"),
    "do_convert_rgb": NOTHING,  # every image becomes RGB if the model has three channels
    **each(
        (
            *("processor_class", "_processor_class", "_valid_processor_keys", "do_reduce_labels", "reduce_labels"),
            *("return_tensors", "device", "disable_grouping", "image_seq_length", "transformers_version"),
        ),
        NOTHING,
    ),
}
HALF, DEFAULT = (0.5, 0.5, 0.5), ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


@dataclass(frozen=True, kw_only=True)
class Processor:
    """The defaults of an image processor in `transformers` 5.24."""

    square: bool | None = True
    """Whether a single number as `size` means a square, not the shorter side. None: releases differ."""
    size: Size | int = (224, 224)
    crops: bool = False
    interpolation: Interpolation = "bicubic"
    mean: tuple[float, ...] = HALF
    std: tuple[float, ...] = HALF
    crop_pct: float | None = None
    """The shorter side becomes ⌊size / crop_pct⌋, then a square of `size` is cropped. From 384 on, it only resizes."""
    enlarged: float = 1
    """The shorter side is larger than `size` by this factor."""
    flips: bool = False
    """Whether it gives the model BGR."""
    normalises: bool = True
    """`do_normalize`."""
    divides_twice: bool = False
    """Whether it divides by std a second time if `include_top` is true."""


PROCESSORS: Mapping[str, Processor] = {
    "ViT": Processor(interpolation="bilinear"),
    "DeiT": Processor(size=(256, 256), crops=True),
    "Beit": Processor(),
    "Bit": Processor(square=False, size=224, crops=True, mean=CLIP[0], std=CLIP[1]),
    "CLIP": Processor(square=False, size=224, crops=True, mean=CLIP[0], std=CLIP[1]),
    "Siglip": Processor(square=None),
    "ConvNext": Processor(square=False, size=384, crop_pct=224 / 256),
    "Levit": Processor(square=False, size=224, crops=True, mean=DEFAULT[0], std=DEFAULT[1], enlarged=256 / 224),
    "MobileNetV1": Processor(square=False, size=256, crops=True, interpolation="bilinear"),
    "MobileNetV2": Processor(square=False, size=256, crops=True, interpolation="bilinear"),
    "MobileViT": Processor(square=False, size=224, crops=True, interpolation="bilinear", normalises=False, flips=True),
    "EfficientNet": Processor(size=(346, 346), divides_twice=True),
}


def processor_named(name: object) -> Processor | None:
    """`ViTFeatureExtractor`, `ViTImageProcessorFast` -> the entry `ViT`."""
    short = re.sub("(ImageProcessor|FeatureExtractor)(Fast|Pil)?$", "", name) if isinstance(name, str) else ""
    return PROCESSORS.get(short)
