"""Checks several options together: precision and target, engine and target, limits and images."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, SupportsFloat

import msgspec

from paraexport import targets
from paraexport.checks.limits import LIMITS
from paraexport.errors import InputError, brief
from paraexport.pipeline.choices import AUTO, PRECISIONS
from paraexport.pipeline.declaration import options_of
from paraexport.targets.compilation import EngineOptions
from paraexport.targets.profiles import settle

if TYPE_CHECKING:
    from paraexport.pipeline.options import Options

INT8_ONLY = ("calibrator", "keep", "equalise")


def check_precision(options: Options) -> None:
    """Refuse a precision that the target cannot run, and int8 options for another precision."""
    refused = targets.get(options.target).dialect.refuses if options.target != AUTO else {}
    if options.precision in refused:
        fit = [name for name, target in targets.TARGETS.items() if options.precision not in target.dialect.refuses]
        raise InputError(
            refused[options.precision],
            where=f"--target {options.target}",
            expected=f"one of {', '.join(name for name in PRECISIONS if name not in refused)}",
            got=f"--precision {options.precision}",
            remedy=f"take --target {' or '.join(fit)}",
        )
    if options.precision == "int8":
        return
    int8_options = [option for option in options_of(type(options)) if option.name in INT8_ONLY]
    if given := [option for option in int8_options if getattr(options, option.name) != option.default]:
        where = ", ".join(option.flag for option in given)
        raise InputError(
            "this option is for int8", where=where, got=f"--precision {options.precision}", remedy="leave it out"
        )


def check_engine(options: Options) -> None:
    """Refuse engine options of the wrong type or range, and those that the target does not take."""
    if not isinstance(options.engine, EngineOptions):
        kind = type(options.engine).__name__
        raise InputError("engine has the wrong type", expected="paraexport.EngineOptions", got=kind)
    try:
        msgspec.convert(dataclasses.asdict(options.engine), EngineOptions)
    except msgspec.ValidationError as error:
        raise InputError(f"an option has the wrong type: {error}", where="EngineOptions") from error
    usual = EngineOptions()
    given = {name for name in vars(usual) if getattr(options.engine, name) != getattr(usual, name)}
    known = {name: targets.engine_options(name) for name in targets.TARGETS}
    if unknown := sorted(given - known.get(options.target, frozenset())):
        fit = [name for name, fields in known.items() if given <= fields]
        raise InputError(
            f"the target has no {', '.join(unknown)}",
            where=f"--target {options.target}",
            expected=f"some of {', '.join(sorted(known.get(options.target, ()))) or 'no engine options at all'}",
            remedy=f"leave it out, or take --target {' or '.join(fit)}" if fit else "leave it out",
        )
    settle(options.engine.profiles, options.max_batch)
    ranges = {"workspace_mib": (1, 2**20), "aux_streams": (0, 256)}
    for name, (least, most) in {**ranges, "optimization_level": (0, 5)}.items():
        if (got := getattr(options.engine, name)) is not None and not least <= got <= most:
            raise InputError(
                "impossible", where=f"--engine {name}", expected=f"at least {least}, at most {most}", got=got
            )


def check_limits(options: Options) -> None:
    """Refuse limits of unknown checks, impossible limits, and `--max-drop` where no accuracy is measured."""
    known = LIMITS[options.precision]
    for name, value in options.moved_limits().items():
        if name not in known:
            raise InputError("no such check", where="--limit", expected=f"one of {', '.join(known)}", got=name)
        if not is_limit(value):
            expected, got = "a number of at least 0", brief(value)
            raise InputError(f"the limit of {name} is impossible", expected=expected, got=got)
    if options.max_drop is not None and options.limits.get("accuracy_drop", options.max_drop) != options.max_drop:
        raise InputError("--max-drop and --limit accuracy_drop say different things", remedy="give one of them")
    if options.max_drop is not None and options.data is None and options.precision != "int8":
        raise InputError("accuracy is measured on labelled images", where="--max-drop", remedy="give --data as well")


def is_limit(value: object) -> bool:
    try:
        return isinstance(value, SupportsFloat) and math.isfinite(value) and float(value) >= 0
    except OverflowError:
        return False
