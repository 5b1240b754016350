"""Reads the size to which a config resizes images, and its crop."""

from __future__ import annotations

from collections.abc import Mapping

from paraexport.checkpoint.given import Size
from paraexport.checkpoint.pixels import NAMES, Pixels
from paraexport.checkpoint.words.hf_images import Processor, processor_named
from paraexport.checkpoint.words.timm import CROP_PCT
from paraexport.checkpoint.words.values import count, part, resize, size

SQUASHED_FROM = 384
"""From this size on, ConvNext's processor resizes without a crop."""


def read_hf_sizes(pixels: Pixels, processor: Processor) -> None:
    """`do_resize`, `size`, `do_center_crop`, `crop_size` -> the resize and, if there is a crop, the image size."""
    reading, words = pixels.reading, pixels.words
    name = "size" if "size" in words else "resize"
    cropped = pixels.switch("do_center_crop", crops(pixels, processor), ("resize", "image_size"))
    try:
        if not pixels.switch("do_resize", True, ("resize",)):
            reading.refuse(pixels.text("do_resize"), "is not supported", ("resize",))
        elif name in words:
            read_hf_size(pixels, hf_size(words[name], square(pixels, processor)), processor, cropped=cropped)
        elif processor_named(pixels.processor) is not None:
            read_hf_size(pixels, processor.size, processor, cropped=cropped)
    except ValueError as error:
        reading.refuse(pixels.text(name), str(error), ("resize",))
    if cropped and "crop_size" in words and processor.crop_pct is None:
        try:
            reading.apply("image_size", size(words["crop_size"]), pixels.text("crop_size"))
        except ValueError as error:
            reading.refuse(pixels.text("crop_size"), str(error), ("image_size",))


def read_hf_size(pixels: Pixels, target: Size | int, processor: Processor, *, cropped: bool) -> None:
    """Apply the resize to `target`, from `size` or from the default of the processor."""
    reading, text = pixels.reading, pixels.text("size", "resize")
    side = target if isinstance(target, int) else min(target)
    if processor.crop_pct is not None:
        pct = part(pixels.words.get("crop_pct", processor.crop_pct))
        if cropped := side < SQUASHED_FROM:
            reading.apply("image_size", (side, side), text)
        target = int(side / pct) if cropped else (side, side)
    elif isinstance(target, int):
        target = int(processor.enlarged * target)
    if {"size", "resize"} & pixels.words.keys():
        reading.apply("resize", target, text)
    else:
        reading.assume("resize", target, f"the default of {pixels.processor}")
    if not cropped:
        reading.apply("uncropped", target, text)
    elif isinstance(target, int) and "resize" not in reading.taken:
        why = "its crop rounds down and ours to even, so for some image sizes the crop starts one pixel apart"
        reading.report(pixels.text("do_center_crop", *NAMES), why)


def crops(pixels: Pixels, processor: Processor) -> bool:
    """Whether the processor crops. Without a processor, a config with `crop_size` crops."""
    return processor.crops or ("crop_size" in pixels.words and not pixels.processor)


def square(pixels: Pixels, processor: Processor) -> bool | None:
    value = pixels.words.get("default_to_square", processor.square)
    return value if isinstance(value, bool) else None


def hf_size(value: object, square: bool | None) -> Size | int:
    """16, [16, 16], {"height": 16, "width": 16} or {"shortest_edge": 16} -> a size, or the shorter side."""
    if isinstance(value, Mapping):
        if value.keys() == {"shortest_edge"}:
            return count(value["shortest_edge"])
        if value.keys() != {"height", "width"}:
            raise ValueError("is not supported, expected height and width, or shortest_edge alone")
        return size(value)
    if isinstance(value, list | tuple):
        if len(value) != 2:
            raise ValueError("is not a height and a width")
        return size(value)
    if square is None:
        raise ValueError("may mean a square or the shorter side")
    return (count(value), count(value)) if square else count(value)


def read_timm_sizes(pixels: Pixels, default_pct: float | None) -> None:
    """Read timm's `crop_pct` and `crop_mode`. `preprocessing` applies them when the image size is known."""
    reading, words = pixels.reading, pixels.words
    mode = words.get("crop_mode") or "center"
    border = words.get("crop_border_pixels") or 0
    if mode not in ("center", "squash") or border != 0:
        name = "crop_mode" if mode not in ("center", "squash") else "crop_border_pixels"
        reading.refuse(pixels.text(name), "is not supported", ("resize",))
        return
    try:
        pct = part(words["crop_pct"]) if words.get("crop_pct") else default_pct
    except ValueError as error:
        reading.refuse(pixels.text("crop_pct"), str(error), ("resize",))
        return
    if "resize" in reading.taken or (pct is None and mode == "center"):
        return
    reading.apply("crop_pct", pct if pct is not None else CROP_PCT, pixels.text("crop_pct"))
    reading.apply("squash", mode == "squash", pixels.text("crop_mode"))
    if not words.get("crop_pct"):
        reading.guesses.assume("crop_pct", CROP_PCT, "the default of timm; for another value, give --spec resize=VALUE")


def read_plain_size(pixels: Pixels) -> None:
    reading, words = pixels.reading, pixels.words
    if pixels.words.get("do_resize") is False:
        reading.refuse(pixels.text("do_resize"), "is not supported", ("resize",))
    if "size" in words and "resize" not in reading.taken:
        try:
            side = resize(words["size"])
        except ValueError:
            reading.report(pixels.text("size"), "it is not the size of an image")
            return
        reading.apply("resize", side, pixels.text("size"))
        if isinstance(side, int):
            reading.guesses.assume("resize", side, f"{pixels.text('size')} is assumed to be the shorter side")
