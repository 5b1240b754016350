"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from paraexport import __version__
from paraexport.cli.output import emit_json
from paraexport.errors import InputError, brief
from paraexport.system.cpus import checked_threads

Command = TypeVar("Command", bound=Callable[..., Any])


class AnyPath(click.Path):
    """A path, which may not be empty: Python would take the current folder for it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("it is empty, expected a path", param, ctx)
        if isinstance(param, click.Option) and str(value).startswith("--"):
            self.fail(f"{brief(value)} looks like an option; write ./{value} for a file of that name", param, ctx)
        return super().convert(value, param, ctx)


PATH = AnyPath(path_type=Path)


def threads(_ctx: click.Context, _param: click.Parameter, given: str | None) -> int | None:
    """`"4"` -> 4."""
    try:
        return checked_threads(None if given is None else int(given))
    except ValueError as error:
        raise click.BadParameter(
            str(error) if isinstance(error, InputError) else f"{brief(given)} is no whole number"
        ) from None


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
