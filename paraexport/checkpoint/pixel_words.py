"""Reads the words about pixels of one config together, as the program that wrote them does."""

from __future__ import annotations

from collections.abc import Mapping

from paraexport.checkpoint.config_reading import ConfigReading
from paraexport.checkpoint.pixel_scale import read_scale
from paraexport.checkpoint.pixel_sizes import read_hf_sizes, read_plain_size, read_timm_sizes
from paraexport.checkpoint.pixels import NAMES, Pixels
from paraexport.checkpoint.words import ConfigKind
from paraexport.checkpoint.words.hf_images import PROCESSORS, Processor, processor_named
from paraexport.checkpoint.words.timm import CROP_PCT, IMAGENET
from paraexport.checkpoint.words.values import interpolation

BGR = "gives the model BGR, but paraexport gives it RGB"
FROM_BGR = (
    "reverse the input channels of its first layer and set do_flip_channel_order to false,"
    " or reverse them in a module and give it with --module FILE.py:FUNCTION"
)


def read_pixel_words(reading: ConfigReading, source: str, kind: ConfigKind, words: Mapping[str, object]) -> None:
    """Read the words about pixels of one config of this kind."""
    pixels = Pixels(reading, source, words)
    processor: Processor | None = None
    if kind == "hf_images":
        processor = known_processor(pixels)
        read_interpolation(pixels, processor.interpolation if processor else None, pixels.processor)
        read_scale(pixels, processor)
        read_hf_sizes(pixels, processor or Processor())
    elif kind == "timm":
        read_interpolation(pixels, "bicubic", "timm")
        read_scale(pixels, Processor(mean=IMAGENET[0], std=IMAGENET[1]), "timm")
        read_timm_sizes(pixels, CROP_PCT)
    else:
        read_interpolation(pixels, None, "")
        read_scale(pixels, None)
        read_plain_size(pixels)
    read_foreign_crop(pixels, kind, processor)
    read_order(pixels, processor)


def known_processor(pixels: Pixels) -> Processor | None:
    processor = processor_named(pixels.processor)
    if pixels.processor and processor is None:
        why = f"its steps are unknown; known are those of {', '.join(PROCESSORS)}"
        pixels.reading.report(pixels.text(*NAMES), why)
    return processor


def read_interpolation(pixels: Pixels, default: str | None, program: str) -> None:
    reading = pixels.reading
    for name in ("resample", "interpolation"):
        if name not in pixels.words:
            continue
        try:
            reading.apply("interpolation", interpolation(pixels.words[name]), pixels.text(name))
        except ValueError as error:
            reading.refuse(pixels.text(name), str(error), ("interpolation",))
        return
    if default is not None:
        reading.assume("interpolation", default, f"the default of {program}")


def read_foreign_crop(pixels: Pixels, kind: ConfigKind, processor: Processor | None) -> None:
    """Read timm's `crop_pct` and `crop_mode` in a config of another kind.

    ConvNext's `crop_pct` is not read here, but with its size.
    """
    if kind == "timm" or not {"crop_pct", "crop_mode"} & pixels.words.keys():
        return
    if not pixels.processor:
        read_timm_sizes(pixels, None)
    elif processor is None or processor.crop_pct is None:
        pixels.reading.report(pixels.text("crop_pct", "crop_mode"), f"{pixels.processor} does not read it")


def read_order(pixels: Pixels, processor: Processor | None) -> None:
    flips = processor is not None and processor.flips
    if pixels.switch("do_flip_channel_order", flips, ()):
        word = ("do_flip_channel_order",) if "do_flip_channel_order" in pixels.words else NAMES
        pixels.reading.refuse(pixels.text(*word), BGR, (), how=FROM_BGR)
