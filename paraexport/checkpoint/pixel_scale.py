"""Turns the words about the scale of pixels into mean and std on the 0..1 scale."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from paraexport.checkpoint.overrides import check_mean, check_std
from paraexport.checkpoint.pixels import Pixels
from paraexport.checkpoint.words.hf_images import Processor
from paraexport.checkpoint.words.values import numbers, on_unit_scale, positive
from paraexport.findings.words import option_text

Numbers = tuple[float, ...]
SCALE_WORDS = ("do_rescale", "rescale_factor", "rescale_offset")


def read_scale(pixels: Pixels, processor: Processor | None, program: str = "") -> None:
    """`do_rescale`, `rescale_factor`, `do_normalize`, mean and std -> mean and std on the 0..1 scale.

    (pixel · factor − offset − mean)/std is (pixel/255 − (mean + offset)/(255 · factor))/(std/(255 · factor)).
    """
    reading = pixels.reading
    if {"mean", "std"} <= reading.taken.keys():
        return
    mean, std, names = stated_scale(pixels, processor, program)
    step = scale_of(pixels, processor)
    if step is None:
        return
    factor, offset = step
    if offset or abs(factor * 255 - 1) >= 1e-3:
        # unscaled pixels with a mean on the 0..1 scale: the author must have scaled the images before
        if mean is None or std is None or (factor == 1 and max(map(abs, mean)) <= 1):
            text, why = (
                pixels.text(*SCALE_WORDS),
                "puts pixels on another scale than 0..1, but no mean and std fit that scale",
            )
            reading.refuse(text, why, ("mean", "std"))
            return
        mean = tuple((value + offset) / (255 * factor) for value in mean)
        std = tuple(value / (255 * factor) for value in std)
    apply_scale(pixels, mean, std, names)


def stated_scale(
    pixels: Pixels, processor: Processor | None, program: str
) -> tuple[Numbers | None, Numbers | None, list[str]]:
    """(mean, std, the words for both), on the scale of the config."""
    program = program or pixels.processor
    normalises = pixels.switch("do_normalize", processor is None or processor.normalises, ("mean", "std"))
    twice = processor is not None and processor.divides_twice and pixels.switch("include_top", True, ("std",))
    values: dict[str, Numbers | None] = {}
    words = []
    for field in ("mean", "std"):
        word, value = first_word(pixels.words, (field, f"image_{field}"))
        alias = pixels.words.get(f"image_{field}", value)
        if simple_numbers(alias) != simple_numbers(value):
            pixels.reading.refuse(pixels.text(field, f"image_{field}"), "contradict each other", (field,))
        values[field] = read_numbers(pixels, field, word, value, strict=processor is not None)
        words.append(word)
        if not word and processor is not None and program:
            values[field] = getattr(processor, field)
            if normalises and not twice:
                pixels.reading.assume(field, values[field], f"the default of {program}")
                values[field] = None
    if not normalises and not twice:
        return (0.0,), (1.0,), ["do_normalize"] * 2
    if twice and (std := values["std"]) is not None:
        # (v - mean)/std is divided by std a second time
        power = 2 if normalises else 1
        return values["mean"] if normalises else (0.0,), tuple(value**power for value in std), ["include_top"] * 2
    return values["mean"], values["std"], words


def simple_numbers(value: object) -> object:
    return tuple(value) if isinstance(value, list | tuple) else value


def read_numbers(pixels: Pixels, field: str, word: str, value: object, *, strict: bool) -> Numbers | None:
    if not word:
        return None
    try:
        return numbers(value)
    except ValueError as error:
        if strict or isinstance(value, list | tuple | int | float):
            pixels.reading.refuse(pixels.text(word), str(error), (field,))
        else:
            pixels.reading.report(pixels.text(word), f"it {error}")
        return None


def apply_scale(
    pixels: Pixels, mean: tuple[float, ...] | None, std: tuple[float, ...] | None, names: Iterable[str]
) -> None:
    reading = pixels.reading
    on_bytes = mean is not None and std is not None and max(map(abs, mean)) > 1 and min(std) > 1
    for field, value, check, name in zip(("mean", "std"), (mean, std), (check_mean, check_std), names, strict=True):
        if value is None:
            continue
        try:
            reading.apply(field, check(value), pixels.text(name))
        except ValueError as error:
            if on_bytes:
                how = f"settle it with --spec {field}={option_text(on_unit_scale(value))}"
                reading.refuse(pixels.text(name), "is on the 0..255 scale, but pixels are on 0..1", (field,), how=how)
            else:
                reading.refuse(pixels.text(name), f"cannot be used, {error}", (field,))


def scale_of(pixels: Pixels, processor: Processor | None) -> tuple[float, float] | None:
    """(factor, offset) of pixel · factor − offset; None if the words are refused."""
    try:
        factor = positive(pixels.words.get("rescale_factor", 1 / 255))
    except ValueError as error:
        pixels.reading.refuse(pixels.text("rescale_factor"), str(error), ("mean", "std"))
        return None
    offset = 1.0 if pixels.switch("rescale_offset", False, ("mean", "std")) else 0.0
    if offset and pixels.processor and (processor is None or not processor.divides_twice):
        pixels.reading.report(pixels.text("rescale_offset"), f"{pixels.processor} does not read it")
        offset = 0.0
    return (factor, offset) if pixels.switch("do_rescale", True, ("mean", "std")) else (1.0, 0.0)


def first_word(words: Mapping[str, object], names: Iterable[str]) -> tuple[str, object]:
    return next(((name, words[name]) for name in names if name in words), ("", None))
