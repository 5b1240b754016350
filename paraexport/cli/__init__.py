"""Runs the command line `paraexport`, and turns errors into exit codes."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click
from click.shell_completion import shell_complete

from paraexport.cli.failure import failure_of, farewell, print_failure
from paraexport.cli.habits import command_hint
from paraexport.cli.options import help_option, json_option, version_option
from paraexport.cli.signals import heeded, interruptible
from paraexport.cli.watchdog import CAN_WATCH, watched
from paraexport.errors import InputError

COMMANDS = ("build", "inspect", "optimize", "validate", "predict", "report", "bench", "doctor")
CLOSED_PIPE = 141
COMPLETION = "_PARAEXPORT_COMPLETE"
"""Shells set this variable to request completions. README.md shows how to turn them on."""


class Commands(click.Group):
    """Commands that are imported when they are used: `paraexport.cli.NAME.command`."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            if (suggestion := command_hint(cmd_name, COMMANDS)) and not ctx.resilient_parsing:
                raise click.UsageError(f"No such command '{cmd_name}'; write paraexport {suggestion}", ctx)
            return None
        command = importlib.import_module(f"paraexport.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command


@click.group(
    "paraexport",
    cls=Commands,
    invoke_without_command=True,
    context_settings={"max_content_width": 100},
    epilog="Exit codes: 0 success; 1 a check failed; 2 bad usage or input; 3 something is missing on this machine.",
)
@version_option
@json_option
@help_option
@click.pass_context
def program(ctx: click.Context, *, as_json: bool) -> None:
    """Turn a trained Para-Former checkpoint into a checked bundle that runs without PyTorch.

    A bundle is one folder with the model, its preprocessing, its labels, and the checks that it passed.

    \b
    Examples:
      paraexport doctor                        show what this machine can do
      paraexport inspect model.pt              show the contents of a checkpoint
      paraexport build model.pt                build model.bundle, and check it against PyTorch
      paraexport predict model.bundle cat.jpg  print the label of an image
      paraexport report model.bundle           write its report as one HTML page
      paraexport bench model.bundle            time it on this machine
    """
    if ctx.invoked_subcommand is not None:
        require_current_folder()
        return
    if as_json:
        raise click.UsageError(f"a command is missing, one of {', '.join(COMMANDS)}", ctx)
    click.echo(ctx.get_help(), err=True)
    ctx.exit(2)


def main(args: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. If `args` is None, use the arguments of the process."""
    arguments = list(sys.argv[1:] if args is None else args)
    prepare_libraries()
    open_streams()
    as_json, to_the_end = wants_json(arguments), args is None and CAN_WATCH
    with farewell(as_json=as_json) as last_words, watched(heeded(), last_words, to_the_end=to_the_end):
        try:
            with interruptible(to_the_end=to_the_end):
                return run(arguments, as_json=as_json)
        except BrokenPipeError:
            abandon_stdout()
            return CLOSED_PIPE
        except (Exception, KeyboardInterrupt) as error:
            return fail(error, as_json=as_json)


def require_current_folder() -> None:
    """Raise an `InputError` if the current folder was deleted: relative paths fail then, and torch would crash."""
    try:
        Path.cwd()
    except OSError as error:
        raise InputError("the current folder cannot be used", got=error.strerror, remedy="go to another one") from error


def prepare_libraries() -> None:
    """Set variables that libraries read when they are imported."""
    # Otherwise idle threads of torch spin while ONNX Runtime computes, and vice versa. With few cores this is slow.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Otherwise both runtimes report their use over the network, and warn if they cannot store an identifier.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # as if it were not installed


def open_streams() -> None:
    """Make both streams accept any text, even if they are closed or a file name is not valid text."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 (as long as the process)
        elif reconfigure := getattr(getattr(sys, name), "reconfigure", None):
            reconfigure(errors="backslashreplace")


def run(arguments: list[str], *, as_json: bool) -> int:
    if instruction := os.environ.get(COMPLETION):
        return shell_complete(program, {}, "paraexport", COMPLETION, instruction)
    code = 0
    try:
        with program.make_context("paraexport", arguments, obj=as_json) as ctx:
            program.invoke(ctx)
    except click.exceptions.Exit as error:
        code = error.exit_code
    sys.stdout.flush()
    return code


def wants_json(arguments: Sequence[str]) -> bool:
    """Return whether `--json` was given. This needs no parser, so usage errors are printed as JSON too."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return any(option == "--json" or option.startswith("--json=") for option in options)


def fail(error: BaseException, *, as_json: bool) -> int:
    failure = failure_of(error)
    try:
        print_failure(failure, error, as_json=as_json)
        sys.stdout.flush()
    except OSError:
        abandon_stdout()
    return failure.exit_code


def abandon_stdout() -> None:
    """Redirect stdout to nothing after its reader closed it. Otherwise Python reports an error when it exits."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        return
