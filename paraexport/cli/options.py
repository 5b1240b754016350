"""Defines the options that several commands share."""

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
    """A path. An empty text is refused, because Python would take it for the current folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("expected a path, got an empty text", param, ctx)
        if isinstance(param, click.Option) and str(value).startswith("--"):
            self.fail(f"{brief(value)} looks like an option; write ./{value} for a file with this name", param, ctx)
        return super().convert(value, param, ctx)


PATH = AnyPath(path_type=Path)


def threads(_ctx: click.Context, _param: click.Parameter, given: str | None) -> int | None:
    """`"4"` -> 4."""
    try:
        return checked_threads(None if given is None else int(given))
    except ValueError as error:
        raise click.BadParameter(
            str(error) if isinstance(error, InputError) else f"{brief(given)} is not a whole number"
        ) from None


def output_options(command: Command) -> Command:
    quiet = click.option("-q", "--quiet", is_flag=True, help="Print no progress, only results, warnings and errors.")
    return json_option(quiet(help_option(command)))


def json_option(command: Command) -> Command:
    """Add `--json`. The context's `obj` is true if it was given anywhere, before or after the command."""
    option = click.option(
        "--json",
        "as_json",
        is_flag=True,
        callback=lambda ctx, _param, given: given or bool(ctx.obj),
        help="Print one JSON object on stdout instead of text, also for errors.",
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
    """Add an option that prints a text and exits. `content` returns (key, text); `--json` prints {key: text}."""

    def callback(ctx: click.Context, _param: click.Parameter, given: bool) -> None:
        if not given or ctx.resilient_parsing:
            return
        key, text = content(ctx)
        if ctx.obj:
            emit_json({key: text})
        else:
            click.echo(text)
        ctx.exit()

    return click.option(*names, is_flag=True, is_eager=True, expose_value=False, callback=callback, help=help)
