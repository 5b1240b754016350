"""Options that several commands share."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from paraexport import __version__
from paraexport.cli.output import emit_json
from paraexport.errors import InputError, brief
from paraexport.pipeline.declaration import Option, options_of
from paraexport.pipeline.options import Options
from paraexport.system.cpus import checked_threads
from paraexport.targets.compilation import EngineOptions
from paraexport.targets.profiles import Profile

Command = TypeVar("Command", bound=Callable[..., Any])

CAPABILITIES, PROFILES = "compute_capabilities", "profiles"
ENGINE_FIELDS = {
    one.name: str(one.type) for one in dataclasses.fields(EngineOptions) if one.name not in {CAPABILITIES, PROFILES}
}
"""The fields of `--engine`, with their types; the other two have options of their own."""


class AnyPath(click.Path):
    """A path, which may not be empty: Python would take the current folder for it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("it is empty, expected a path", param, ctx)
        if isinstance(param, click.Option) and str(value).startswith("--"):
            self.fail(f"{brief(value)} looks like an option; write ./{value} for a file of that name", param, ctx)
        return super().convert(value, param, ctx)


PATH = AnyPath(path_type=Path)


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


def threads(_ctx: click.Context, _param: click.Parameter, given: str | None) -> int | None:
    """`"4"` -> 4."""
    try:
        return checked_threads(None if given is None else int(given))
    except ValueError as error:
        raise click.BadParameter(
            str(error) if isinstance(error, InputError) else f"{brief(given)} is no whole number"
        ) from None


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


def output_options(command: Command) -> Command:
    quiet = click.option("-q", "--quiet", is_flag=True, help="No progress; warnings and errors are still printed.")
    return json_option(quiet(help_option(command)))


def json_option(command: Command) -> Command:
    """`--json`; the context's `obj` already says whether it was given, before or after the command."""
    option = click.option(
        "--json",
        "as_json",
        is_flag=True,
        callback=lambda ctx, _param, given: given or bool(ctx.obj),
        help="Print one JSON object on stdout, in place of text; also for an error.",
    )
    return option(command)


def help_option(command: Command) -> Command:
    option = printing_option(lambda ctx: ("help", ctx.get_help()), "-h", "--help", help="Show this message and exit.")
    return option(command)


def version_option(command: Command) -> Command:
    def version(ctx: click.Context) -> tuple[str, str]:
        return ("paraexport", __version__ if ctx.obj else f"paraexport {__version__}")

    return printing_option(version, "--version", help="Show the version and exit.")(command)


def printing_option(
    content: Callable[[click.Context], tuple[str, str]],
    *names: str,
    help: str,  # noqa: A002 (click's name)
) -> Callable[[Command], Command]:
    """An option that prints a text and ends; with `--json` it prints {key: text}. `content` gives (key, text)."""

    def callback(ctx: click.Context, _param: click.Parameter, given: bool) -> None:
        if not given or ctx.resilient_parsing:
            return
        key, said = content(ctx)
        if ctx.obj:
            emit_json({key: said})
        else:
            click.echo(said)
        ctx.exit()

    return click.option(*names, is_flag=True, is_eager=True, expose_value=False, callback=callback, help=help)


def build_options(*names: str) -> Callable[[Command], Command]:
    """The options of `Options` with these names, by default all, as they are declared there."""

    def decorate(command: Command) -> Command:
        for one in reversed([*options_of(Options)]):
            if one.name == "engine" and not names:
                command = engine_options(command)
            elif one.name != "engine" and (not names or one.name in names):
                command = click_option(one)(command)
        return command

    return decorate


def click_option(one: Option) -> Callable[[Command], Command]:
    """An option of the command line for a declared one."""
    says, settings = one.says, dict[str, Any](help=one.says.help)
    if says.choices:
        settings |= {"type": click.Choice(says.choices), "default": one.default, "show_default": True}
    elif one.default is True:
        return click.option(
            one.flag, one.name, is_flag=True, flag_value=False, default=True, help=f"Do not: {says.help}"
        )
    elif one.kind in NUMBERS:
        settings["type"] = NUMBERS[one.kind](says.least, says.most)
        if one.default is not None:
            settings |= {"default": one.default, "show_default": True}
    elif one.kind == Path | None:
        settings["type"] = PATH
    elif one.kind in MANY:
        settings |= {"multiple": True, "callback": MANY[one.kind], "help": f"{says.help} May be repeated."}
    return click.option(one.flag, one.name, metavar=says.metavar, **settings)


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


def engine_options(command: Command) -> Command:
    """How an engine is compiled."""
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
