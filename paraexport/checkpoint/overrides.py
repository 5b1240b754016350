"""Parses the options `--spec FIELD=VALUE`."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping

from paraexport.checkpoint.conventions.convention import is_number
from paraexport.checkpoint.given import CHOICES, FIELDS, Given, Size
from paraexport.checkpoint.labels import labels_in_file
from paraexport.errors import SpecError

COUNTS = ("channels", "classes", "dim", "branches", "depth", "heads", "head_dim", "mlp_dim")


def parse_overrides(overrides: Mapping[str, str]) -> Given:
    """Parse the options, e.g. {"heads": "4", "image_size": "32x48", "mean": "0.5,0.4,0.3"}.

    Raises:
        SpecError: fields are unknown or values impossible. The message lists all of them.
    """
    problems: list[str] = []
    values: dict[str, object] = {}
    for field, text in overrides.items():
        if field not in FIELDS:
            problems.append(unknown(field))
            continue
        try:
            values[field] = parser(field)(text.strip())
        except ValueError as error:
            problems.append(f"{field}={text[:200]}: {error}")
    if problems:
        listed = any(field not in FIELDS for field in overrides)
        raise SpecError(
            "--spec " + "; ".join(problems), remedy=f"the fields are {', '.join(FIELDS)}" if listed else None
        )
    return Given(**values)  # type: ignore[arg-type]


def unknown(field: str) -> str:
    near = difflib.get_close_matches(field, FIELDS, 1)
    return f"{field}: no such field" + (f", did you mean {near[0]}?" if near else "")


def parser(field: str) -> Callable[[str], object]:
    if field in COUNTS:
        return count
    if field in CHOICES:
        return lambda text: choice(text, CHOICES[field])
    return PARSERS.get(field, truth)


def count(text: str) -> int:
    if not is_number(text) or int(text) < 1:
        raise ValueError("expected a whole number, 1 or more")
    return int(text)


def choice(text: str, allowed: tuple[str, ...]) -> str:
    if text not in allowed:
        raise ValueError(f"expected one of {', '.join(allowed)}")
    return text


def truth(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError("expected true or false")
    return text.lower() == "true"


def size(text: str) -> Size:
    parts = text.lower().split("x")
    if len(parts) > 2:
        raise ValueError("expected one number of pixels or HEIGHTxWIDTH")
    sides = [count(part) for part in parts]
    return sides[0], sides[-1]


def resize(text: str) -> Size | int:
    return size(text) if "x" in text.lower() else count(text)


def numbers(text: str) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if not values or not all(math.isfinite(value) for value in values):
        raise ValueError("expected one number, or one per channel, separated by commas")
    return values


def mean(text: str) -> tuple[float, ...]:
    return check_mean(numbers(text))


def std(text: str) -> tuple[float, ...]:
    return check_std(numbers(text))


def check_mean(values: tuple[float, ...]) -> tuple[float, ...]:
    if not all(abs(value) <= 1 for value in values):  # also refuses NaN
        raise ValueError("expected a mean on the 0..1 scale")
    return values


def check_std(values: tuple[float, ...]) -> tuple[float, ...]:
    # 1 / 255, for an 8-bit image that was scaled before, is the smallest that can be right
    if any(not 0.001 < value <= 16 for value in values):
        raise ValueError("expected positive numbers on the 0..1 scale")
    return values


def eps(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < 1:
        raise ValueError("expected a number between 0 and 1")
    return value


PARSERS: Mapping[str, Callable[[str], object]] = {
    "image_size": size,
    "patch_size": size,
    "resize": resize,
    "mean": mean,
    "std": std,
    "eps": eps,
    "labels": labels_in_file,
}
