"""Runs a function of this package in a separate process, so that a crash of a library only ends that process.

The parent writes one line of JSON with the name of the function and its arguments. The child answers in lines of JSON:
stages and warnings while it works, then one result or one error. The child ends when the parent ends.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from paraexport import errors
from paraexport.errors import NO_MEMORY, InputError, MissingError, ParaexportError, lack_of_memory, on_one_line
from paraexport.findings.checks import Check
from paraexport.system import process
from paraexport.system.plain_paths import remove_links
from paraexport.timing.clock import Progress, silent

SERVING = "from paraexport.system import isolation; isolation.serve()"
MOST_CHARACTERS = 300
MOST_WARNINGS = 8
FREE_MEMORY = "free memory"


def call(
    function: str,
    *arguments: object,
    where: Path,
    remedy: str,
    progress: Progress = silent,
    warn: Progress = silent,
) -> Any:
    """Call `function`, given as `module:name`, and return its result as JSON values.

    Args:
        arguments: text and numbers.
        where: the file that the function works on, for the message if the process crashes.
        remedy: the remedy in that message.
        progress: called with each stage that the function reports through its own argument `progress`.
        warn: called with each warning of a library, on one line.

    Raises:
        InputError: the process crashed. Errors of the function are raised as they are.
        MissingError: the process ran out of memory, or the system ended it.
    """
    stage = "starting"
    with tempfile.TemporaryFile() as stderr:
        child = subprocess.Popen(  # noqa: S603 (a command of our own)
            process.command(SERVING), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, encoding="ascii"
        )
        try:
            assert child.stdin is not None
            assert child.stdout is not None
            for event in answers(child, {"function": function, "arguments": arguments}):
                if "stage" in event:
                    stage = event["stage"]
                    progress(stage)
                elif "warning" in event:
                    warn(event["warning"])
                elif "error" in event:
                    raise decode_error(event["error"])
                else:
                    return event["result"]
            code = child.wait()
        finally:
            child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout):
                close(pipe)
        stderr.seek(0)
        text = stderr.read().decode(errors="replace")
    raise crash_error(code, stage, text, where, remedy)


def answers(child: subprocess.Popen[str], request: object) -> Iterator[Mapping[str, Any]]:
    try:
        print(json.dumps(request), file=child.stdin, flush=True)
    except BrokenPipeError:
        return
    for line in child.stdout or ():
        yield json.loads(line)


def close(pipe: IO[str] | None) -> None:
    try:
        if pipe is not None:
            pipe.close()
    except OSError:  # the child has ended, so the rest cannot be written
        return


def crash_error(code: int, stage: str, stderr: str, where: Path, remedy: str) -> ParaexportError:
    """The error for a process that ended with exit code `code`, without a result."""
    if NO_MEMORY.search(stderr) or code == -getattr(signal, "SIGKILL", 9):
        got = "out of memory" if NO_MEMORY.search(stderr) else "the system killed the process"
        return MissingError("there is not enough memory", where=where, got=f"{got} while {stage}", remedy=FREE_MEMORY)
    error = InputError(f"a library crashed while {stage}", where=where, got=signal_name(code), remedy=remedy)
    if stderr.strip():
        error.add_note(f"The process that worked on the file wrote:\n{stderr.strip()[-MOST_CHARACTERS:]}")
    return error


def signal_name(code: int) -> str:
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"exit code {code}"


# The side of the child.


def serve() -> None:
    """Read the request from stdin and answer on stdout. The output of libraries goes to stderr."""
    stream = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends this process
    request = json.loads(sys.stdin.readline())
    threading.Thread(target=end_with_parent, daemon=True).start()

    def send(**event: object) -> None:
        print(json.dumps(event), file=stream, flush=True)

    collect_warnings(lambda text: send(warning=text))
    try:
        module, _, name = request["function"].partition(":")
        function = getattr(importlib.import_module(module), name)
        try:
            result = to_builtins(function(*request["arguments"], progress=lambda stage: send(stage=stage)))
        finally:
            remove_links()
    except BaseException as error:
        send(error=encode_error(error))
    else:
        send(result=result)
    os._exit(0)  # a normal exit could crash in a library's own cleanup


def end_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)


def collect_warnings(send: Progress) -> None:
    """Send each warning once, on one line, and at most `MOST_WARNINGS` of them."""
    sent: set[str] = set()

    def send_once(text: object) -> None:
        line = on_one_line(text)[:MOST_CHARACTERS]
        if line and line not in sent and len(sent) < MOST_WARNINGS:
            sent.add(line)
            send(line)

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            cause = record.exc_info[1] if record.exc_info else None
            send_once(f"{record.name}: {record.getMessage()}{'' if cause is None else f' ({cause})'}")

    logging.getLogger().handlers = [Handler(logging.WARNING)]
    warnings.showwarning = lambda message, *_, **__: send_once(message)


def to_builtins(value: object) -> object:
    import msgspec

    return msgspec.to_builtins(value)


def encode_error(error: BaseException) -> dict[str, object]:
    """An exception as JSON values; `decode_error` turns them back."""
    if isinstance(error, MemoryError):
        error = lack_of_memory(error, remedy=FREE_MEMORY) or error
    if isinstance(error, ParaexportError):
        facts = {name: getattr(error, name) for name in ("what", "where", "expected", "got", "remedy")}
        return {"ours": type(error).__name__, "facts": facts, "checks": to_builtins(getattr(error, "checks", ()))}
    if isinstance(error, ImportError):
        return {"import": str(error), "name": error.name, "path": error.path, "kind": type(error).__name__}
    if isinstance(error, OSError) and error.strerror:
        return {
            "system": [error.errno, error.strerror],
            "file": None if error.filename is None else str(error.filename),
        }
    return {"other": type(error).__name__, "text": str(error), "traceback": traceback.format_exc()}


def decode_error(event: Mapping[str, Any]) -> BaseException:
    if "ours" in event:
        facts = event["facts"]
        error = getattr(errors, event["ours"])(facts.pop("what"), **facts)
        if event["checks"]:
            import msgspec

            error.checks = msgspec.convert(event["checks"], tuple[Check, ...])
        return error
    if "import" in event:
        kind = ModuleNotFoundError if event["kind"] == "ModuleNotFoundError" else ImportError
        return kind(event["import"], name=event["name"], path=event["path"])
    if "system" in event:
        return OSError(*event["system"], event["file"])
    unknown = type(event["other"], (Exception,), {})(event["text"])
    unknown.add_note(f"In the process that worked on the file:\n{event['traceback']}")
    return unknown
