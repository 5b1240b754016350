"""Makes command-line options from the declarations in `Options`."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from paraexport.cli.options import PATH
from paraexport.model.branch_choice import BranchChoice, BranchCounts, parse_choice, parse_counts
from paraexport.pipeline.declaration import Option, declared_options
from paraexport.pipeline.options import Options
from paraexport.targets.compilation import EngineOptions
from paraexport.targets.profiles import Profile

Command = TypeVar("Command", bound=Callable[..., Any])
CAPABILITIES, PROFILES = "compute_capabilities", "profiles"
ENGINE_FIELDS = {
    field.name: str(field.type)
    for field in dataclasses.fields(EngineOptions)
    if field.name not in {CAPABILITIES, PROFILES}
}
"""The fields of `--engine`, with their types. The other two fields have separate options."""


def pairs(_ctx: click.Context, _param: click.Parameter, given: Sequence[str]) -> dict[str, str]:
    """`("heads=4", "pool=mean")` -> `{"heads": "4", "pool": "mean"}`."""
    values: dict[str, str] = {}
    for text in given:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not (name and equals and value):
            raise click.BadParameter(f"{text!r} is not NAME=VALUE")
        if values.setdefault(name, value) != value:
            raise click.BadParameter(f"{name} is given twice, as {values[name]} and as {value}")
    return values


def engine(ctx: click.Context, param: click.Parameter, given: Sequence[str]) -> EngineOptions:
    """`("aux_streams=4", "tf32=true")` -> EngineOptions(aux_streams=4, tf32=True)."""
    kinds = ENGINE_FIELDS
    fields: dict[str, Any] = {}
    for name, text in pairs(ctx, param, given).items():
        if name not in kinds:
            raise click.BadParameter(f"{name} is not one of {', '.join(kinds)}")
        choices = {"true": True, "false": False}
        try:
            fields[name] = choices[text.lower()] if kinds[name] == "bool" else int(text)
        except (KeyError, ValueError):
            expected = "true or false" if kinds[name] == "bool" else "a whole number"
            raise click.BadParameter(f"{name}={text} is not {expected}") from None
    return EngineOptions(**fields)


def capabilities(_ctx: click.Context, _param: click.Parameter, given: Sequence[str]) -> tuple[str, ...]:
    """Check compute capabilities such as `8.9`, and drop repeated ones."""
    for text in given:
        if not re.fullmatch(r"[0-9]+\.[0-9]", text):
            raise click.BadParameter(f"{text!r} is not a compute capability such as 8.9")
    return tuple(dict.fromkeys(given))


def profiles(_ctx: click.Context, _param: click.Parameter, given: Sequence[str]) -> tuple[Profile, ...]:
    """`("1:1:1", "2:8:64")` -> Profile(1, 1, 1), Profile(2, 8, 64)."""
    for text in given:
        if not re.fullmatch(r"[0-9]{1,18}(:[0-9]{1,18}){2}", text):  # int() refuses thousands of digits
            raise click.BadParameter(f"{text!r} is not MIN:OPT:MAX, such as 2:8:64")
    return tuple(Profile(*map(int, text.split(":"))) for text in given)


def limits(ctx: click.Context, param: click.Parameter, given: Sequence[str]) -> dict[str, float]:
    """`("parity=1e-4",)` -> `{"parity": 1e-4}`."""
    values = {}
    for name, text in pairs(ctx, param, given).items():
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and value >= 0):
            raise click.BadParameter(f"{name}={text} is not a number of at least 0")
        values[name] = value
    return values


def build_options(*names: str) -> Callable[[Command], Command]:
    """Add the options of `Options` with these names to a command; all options if no names are given."""

    def decorate(command: Command) -> Command:
        for option in reversed([*declared_options(Options)]):
            if option.name == "engine" and not names:
                command = engine_options(command)
            elif option.name != "engine" and (not names or option.name in names):
                command = click_option(option)(command)
        return command

    return decorate


def click_option(option: Option) -> Callable[[Command], Command]:
    """Make a command-line option from its declaration."""
    declaration, settings = option.declaration, dict[str, Any](help=option.declaration.help)
    if declaration.choices:
        settings |= {
            "type": click.Choice(declaration.choices, case_sensitive=False),
            "default": option.default,
            "show_default": True,
        }
    elif option.default is True:
        return click.option(
            option.flag, option.name, is_flag=True, flag_value=False, default=True, help=declaration.help
        )
    elif option.kind in NUMBERS:
        settings["type"] = NUMBERS[option.kind](declaration.least, declaration.most)
        if option.default is not None:
            settings |= {"default": option.default, "show_default": True}
    elif option.kind in TEXTS:
        settings["callback"] = TEXTS[option.kind]
    elif option.kind == Path | None:
        settings["type"] = PATH
    elif option.kind in MANY:
        settings |= {"multiple": True, "callback": MANY[option.kind], "help": f"{declaration.help} May be repeated."}
    return click.option(option.flag, option.name, metavar=declaration.metavar, **settings)


def engine_options(command: Command) -> Command:
    """Add the options for compiling an engine to a command."""
    capability = click.option(
        "--compute-capability",
        CAPABILITIES,
        multiple=True,
        metavar="X.Y",
        callback=capabilities,
        help="For tensorrt-rtx: compile only for GPUs with this compute capability, such as 8.9. May be repeated. "
        "[default: all that it supports]",
    )
    profile = click.option(
        "--profile",
        PROFILES,
        multiple=True,
        metavar="MIN:OPT:MAX",
        callback=profiles,
        help="For TensorRT targets: a range of batch sizes with its own kernels, which are fastest for OPT images. May "
        "be repeated; the ranges must cover 1 to --max-batch. [default: one range, with OPT 8]",
    )
    rest = click.option(
        "--engine",
        multiple=True,
        metavar="FIELD=VALUE",
        callback=engine,
        help=f"For TensorRT targets: set a compiler option, one of {', '.join(ENGINE_FIELDS)}. May be repeated.",
    )
    return capability(profile(rest(command)))


MANY = {
    Mapping[str, str]: pairs,
    Mapping[str, float]: limits,
    tuple[str, ...]: lambda _ctx, _param, given: given,
}
TEXTS: Mapping[Any, Callable[..., Any]] = {
    BranchChoice | None: lambda _ctx, _param, text: None if text is None else parse_choice(text),
    BranchCounts | None: lambda _ctx, _param, text: None if text is None else parse_counts(text),
}
NUMBERS: Mapping[Any, Callable[[Any, Any], Any]] = {
    int: click.IntRange,
    int | None: click.IntRange,
    float | None: click.FloatRange,
}
