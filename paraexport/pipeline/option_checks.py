"""Checks combinations of options: precision and target, engine and target, limits and images."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import SupportsFloat

import msgspec

from paraexport import targets
from paraexport.checks.limits import LIMITS
from paraexport.errors import InputError, brief
from paraexport.model.branch_choice import AT_LOAD
from paraexport.pipeline.choices import AUTO, PRECISIONS
from paraexport.pipeline.declaration import Option
from paraexport.targets.compilation import EngineOptions
from paraexport.targets.profiles import settle

INT8_ONLY = ("calibrator", "keep", "equalise")


def check_precision(precision: str, target: str, given: Iterable[Option]) -> None:
    """Refuse a precision that the target cannot run, and int8-only options with other precisions.

    `given` are the options whose values differ from their defaults.
    """
    refused = targets.get(target).dialect.refuses if target != AUTO else {}
    if precision in refused:
        fit = [name for name, other in targets.TARGETS.items() if precision not in other.dialect.refuses]
        raise InputError(
            refused[precision],
            where=f"--target {target}",
            expected=f"one of {', '.join(name for name in PRECISIONS if name not in refused)}",
            got=f"--precision {precision}",
            remedy=f"give --target {' or '.join(fit)}",
        )
    flags = [option.flag for option in given if option.name in INT8_ONLY]
    if flags and precision != "int8":
        got, remedy = f"--precision {precision}", "leave it out"
        raise InputError("this option is only for int8", where=", ".join(flags), got=got, remedy=remedy)


def check_branches_at_load(target: str) -> None:
    """Refuse `--branches-at-load` for a target that compiles engines."""
    if target != AUTO and targets.compiler(target) is not None:
        fit = [name for name in targets.TARGETS if targets.compiler(name) is None]
        raise InputError(
            "an engine holds its own weights, so several models cannot share them",
            where=f"{AT_LOAD} with --target {target}",
            expected=f"one of {', '.join(fit)}",
            remedy="build one bundle for each number of --branches",
        )


def check_engine(engine: object, target: str, max_batch: int) -> None:
    """Refuse engine options with a wrong type or range, and those that the target does not have."""
    if not isinstance(engine, EngineOptions):
        kind = type(engine).__name__
        raise InputError("engine has the wrong type", expected="paraexport.EngineOptions", got=kind)
    try:
        msgspec.convert(dataclasses.asdict(engine), EngineOptions)
    except msgspec.ValidationError as error:
        raise InputError(f"an option has the wrong type: {error}", where="EngineOptions") from error
    defaults = EngineOptions()
    given = {name for name in vars(defaults) if getattr(engine, name) != getattr(defaults, name)}
    known = {name: targets.engine_options(name) for name in targets.TARGETS}
    if unknown := sorted(given - known.get(target, frozenset())):
        fit = [name for name, fields in known.items() if given <= fields]
        raise InputError(
            f"the target has no {', '.join(unknown)}",
            where=f"--target {target}",
            expected=f"one of {names}" if (names := ", ".join(sorted(known.get(target, ())))) else "no engine options",
            remedy=f"leave it out, or give --target {' or '.join(fit)}" if fit else "leave it out",
        )
    settle(engine.profiles, max_batch)
    ranges = {"workspace_mib": (1, 2**20), "aux_streams": (0, 256)}
    for name, (least, most) in {**ranges, "optimization_level": (0, 5)}.items():
        if (got := getattr(engine, name)) is not None and not least <= got <= most:
            raise InputError(
                "invalid value", where=f"--engine {name}", expected=f"at least {least}, at most {most}", got=got
            )


def check_limits(precision: str, moved: Mapping[str, float]) -> None:
    """Refuse limits of unknown checks, and limits that are not numbers of at least 0."""
    known = LIMITS[precision]
    for name, value in moved.items():
        if name not in known:
            raise InputError("no such check", where="--limit", expected=f"one of {', '.join(known)}", got=name)
        if not is_limit(value):
            expected, got = "a number of at least 0", brief(value)
            raise InputError(f"the limit of {name} is not valid", expected=expected, got=got)


def check_drop(max_drop: float | None, limits: Mapping[str, float], *, is_measured: bool) -> None:
    """Refuse `--max-drop` if another limit contradicts it, or if the build measures nothing that it could limit."""
    if max_drop is None:
        return
    if limits.get("accuracy_drop", max_drop) != max_drop:
        raise InputError("--max-drop and --limit accuracy_drop contradict each other", remedy="give one of them")
    if not is_measured:
        raise InputError("this limit needs labelled images", where="--max-drop", remedy="give --data as well")


def is_limit(value: object) -> bool:
    try:
        return isinstance(value, SupportsFloat) and math.isfinite(value) and float(value) >= 0
    except OverflowError:
        return False
