"""The options of `Options` on the command line, made from their declarations."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from paraexport.cli.options import PATH
from paraexport.pipeline.declaration import Option, declared_options
from paraexport.pipeline.options import Options
from paraexport.targets.compilation import EngineOptions
from paraexport.targets.profiles import Profile

Command = TypeVar("Command", bound=Callable[..., Any])
CAPABILITIES, PROFILES = "compute_capabilities", "profiles"
ENGINE_FIELDS = {
    one.name: str(one.type) for one in dataclasses.fields(EngineOptions) if one.name not in {CAPABILITIES, PROFILES}
}
"""The fields of `--engine`, with their types; the other two have options of their own."""


def pairs(_ctx: click.Context, _param: click.Parameter, given: Sequence[str]) -> dict[str, str]:
    """`("heads=4", "pool=mean")` -> `{"heads": "4", "pool": "mean"}`."""
    found: dict[str, str] = {}
    for text in given:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not (name and equals and value):
            raise click.BadParameter(f"{text!r} is not NAME=VALUE")
        if found.setdefault(name, value) != value:
            raise click.BadParameter(f"{name} is given twice, as {found[name]} and as {value}")
    return found


def engine(ctx: click.Context, param: click.Parameter, given: Sequence[str]) -> EngineOptions:
    """`("aux_streams=4", "tf32=true")` -> EngineOptions(aux_streams=4, tf32=True)."""
    kinds = ENGINE_FIELDS
    found: dict[str, Any] = {}
    for name, text in pairs(ctx, param, given).items():
        if name not in kinds:
            raise click.BadParameter(f"{name} is none of {', '.join(kinds)}")
        choices = {"true": True, "false": False}
        try:
            found[name] = choices[text.lower()] if kinds[name] == "bool" else int(text)
        except (KeyError, ValueError):
            wanted = "true or false" if kinds[name] == "bool" else "a whole number"
            raise click.BadParameter(f"{name}={text} is not {wanted}") from None
    return EngineOptions(**found)


def capabilities(_ctx: click.Context, _param: click.Parameter, given: Sequence[str]) -> tuple[str, ...]:
    """Each once; `8.9`, as NVIDIA writes them."""
    for text in given:
        if not re.fullmatch(r"[0-9]+\.[0-9]", text):
            raise click.BadParameter(f"{text!r} is no compute capability such as 8.9")
    return tuple(dict.fromkeys(given))


def profiles(_ctx: click.Context, _param: click.Parameter, given: Sequence[str]) -> tuple[Profile, ...]:
    """`("1:1:1", "2:8:64")` -> Profile(1, 1, 1), Profile(2, 8, 64)."""
    for text in given:
        if not re.fullmatch(r"[0-9]{1,18}(:[0-9]{1,18}){2}", text):  # Python reads no number of thousands of digits
            raise click.BadParameter(f"{text!r} is no MIN:OPT:MAX such as 2:8:64")
    return tuple(Profile(*map(int, text.split(":"))) for text in given)


def limits(ctx: click.Context, param: click.Parameter, given: Sequence[str]) -> dict[str, float]:
    """`("parity=1e-4",)` -> `{"parity": 1e-4}`."""
    found = {}
    for name, text in pairs(ctx, param, given).items():
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and value >= 0):
            raise click.BadParameter(f"{name}={text} is no number, 0 or more")
        found[name] = value
    return found


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
        help="With tensorrt-rtx, compile for these GPUs alone, such as 8.9. May be repeated. [default: all it knows]",
    )
    profile = click.option(
        "--profile",
        PROFILES,
        multiple=True,
        metavar="MIN:OPT:MAX",
        callback=profiles,
        help="With a TensorRT target, a range of batches with kernels of its own, chosen for OPT images. May be "
        "repeated, so that every batch up to --max-batch is in some range. [default: one range, kernels for 8]",
    )
    rest = click.option(
        "--engine",
        multiple=True,
        metavar="FIELD=VALUE",
        callback=engine,
        help=f"How a TensorRT engine is compiled: {', '.join(ENGINE_FIELDS)}. May be repeated.",
    )
    return capability(profile(rest(command)))


MANY = {
    Mapping[str, str]: pairs,
    Mapping[str, float]: limits,
    tuple[str, ...]: lambda _ctx, _param, given: given,
}
NUMBERS: Mapping[Any, Callable[[Any, Any], Any]] = {
    int: click.IntRange,
    int | None: click.IntRange,
    float | None: click.FloatRange,
}
