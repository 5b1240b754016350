"""Turns an exception into one line for people, one object for programs, and an exit code."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from paraexport.cli.habits import hint
from paraexport.cli.output import emit_json, say
from paraexport.cli.render import line_of, print_sections
from paraexport.cli.signals import Interrupted
from paraexport.cli.stages import STDERR, STDOUT
from paraexport.cli.watchdog import Farewell
from paraexport.errors import InputError, MissingError, ParaexportError, lack_of_memory
from paraexport.findings import describe
from paraexport.findings.bisection import Bisection
from paraexport.findings.checks import Check
from paraexport.system.extras import install

ENDED = "a library did not stop, so the process was ended; the next build removes the unfinished files"
TRACEBACK = "PARAEXPORT_TRACEBACK"
EXTRAS = {
    "onnxruntime": "cpu",
    **dict.fromkeys(("torch", "onnx", "onnx_ir", "onnxscript"), "build"),
    **dict.fromkeys(("jinja2", "markupsafe", "matplotlib"), "report"),
}
"""The extra that installs a module which may be missing."""


@dataclass(frozen=True)
class Problem:
    """An error as `--json` prints it."""

    kind: str
    what: str
    where: str | None = None
    expected: str | None = None
    got: str | None = None
    remedy: str | None = None


@dataclass(frozen=True)
class Failure:
    problem: Problem
    line: str
    exit_code: int
    checks: tuple[Check, ...] = ()
    """All checks, if one of them failed."""
    bisection: Bisection | None = None
    """The part that the engine computes wrongly, although the graph is right."""


def problem_of(error: ParaexportError) -> Problem:
    return Problem(type(error).__name__, error.what, error.where, error.expected, error.got, error.remedy)


def failure_of(error: BaseException) -> Failure:
    """Describe `error`. An unexpected exception is reported as a bug."""
    known = translated(error)
    if isinstance(known, ParaexportError):
        checks, bisection = tuple(getattr(known, "checks", ())), getattr(known, "bisection", None)
        return Failure(problem_of(known), str(known), known.exit_code, checks, bisection)
    if isinstance(error, Interrupted | KeyboardInterrupt):
        what = "; ".join(["interrupted", *getattr(error, "__notes__", ())])
        return Failure(Problem("Interrupted", what), what, getattr(error, "exit_code", 130))
    if isinstance(error, click.ClickException):
        what, suggestion = error.format_message().rstrip("."), hint(error)
        ctx = getattr(error, "ctx", None)
        if suggestion is not None and isinstance(error, click.exceptions.NoSuchOption):
            what = f"No such option '{error.option_name}'"  # without click's guess, which only compares letters
        remedy = "; ".join(filter(None, (suggestion, f"see `{ctx.command_path} --help`" if ctx else None))) or None
        return Failure(
            Problem("UsageError", what, remedy=remedy), f"{what}; {remedy}" if remedy else what, error.exit_code
        )
    what = f"this is a bug in paraexport: {type(error).__name__}: {error}".rstrip(": ")
    remedy = f"run it again with {TRACEBACK}=1, and report the traceback"
    return Failure(Problem("InternalError", what, remedy=remedy), f"{what}; {remedy}", 1)


def translated(error: BaseException) -> BaseException:
    """Turn errors of libraries, files and memory into errors of paraexport. Return other errors unchanged."""
    if isinstance(error, ParaexportError | click.ClickException):
        return error
    if isinstance(error, ImportError) and (module := library_of(error)):
        command = install(EXTRAS[module])
        if isinstance(error, ModuleNotFoundError):
            return MissingError(f"{module} is not installed", remedy=command)
        return MissingError(f"{module} cannot be imported", got=error, remedy=f"paraexport doctor, or {command}")
    if isinstance(error, OSError) and error.strerror:
        return InputError(error.strerror, where=error.filename)
    return (lack_of_memory(error) if isinstance(error, Exception) else None) or error


def library_of(error: ImportError) -> str:
    """Return the library that could not be loaded, if an extra installs it; else an empty string."""
    possible = ((error.name or "").partition(".")[0], *reversed(Path(error.path or "").parts))
    return next((name for name in possible if name in EXTRAS), "")


def print_failure(failure: Failure, error: BaseException, *, as_json: bool) -> None:
    """Print one line on stderr. Print failed checks on stdout, or one object with `as_json`."""
    if os.environ.get(TRACEBACK, "0") not in ("", "0"):
        traceback.print_exception(error, file=sys.stderr)
    if failure.checks and not as_json:
        print_sections([describe.checks(failure.checks)])
    if failure.bisection and not as_json:
        print_sections([describe.bisection(failure.bisection)])
    prefix = "" if failure.problem.kind == "Interrupted" else "error: "
    say(f"{prefix}{line_of(failure.line)}")
    if as_json:
        more = {name: value for name in ("checks", "bisection") if (value := getattr(failure, name))}
        emit_json({"error": asdict(failure.problem), "exit_code": failure.exit_code, **more})


@contextlib.contextmanager
def farewell(*, as_json: bool) -> Iterator[Farewell]:
    """Yield the last words of the watchdog. They are those of `print_failure`, but nothing here may wait or import."""
    stdout = None
    with contextlib.suppress(OSError):
        stdout = os.dup(STDOUT) if as_json else None  # stages redirect stdout

    def last_words(number: int) -> dict[int, bytes]:
        error = Interrupted(number)
        error.add_note(ENDED)
        failure = failure_of(error)
        outputs = {STDERR: f"{failure.line}\n".encode()}
        if stdout is not None:
            content = {"error": asdict(failure.problem), "exit_code": failure.exit_code}
            outputs[stdout] = f"{json.dumps(content, indent=2)}\n".encode()
        return outputs

    try:
        yield last_words
    finally:
        if stdout is not None:
            os.close(stdout)
