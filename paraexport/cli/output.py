"""Prints results on stdout, and everything else on stderr."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Iterable
from pathlib import Path

from paraexport.cli.render import line_of
from paraexport.errors import printable
from paraexport.findings.document import Line, Section


def emit_json(value: object) -> None:
    """Print `value` as one JSON object on stdout: dataclasses, mappings, sequences, text and numbers."""
    import msgspec

    print(json.dumps(finite(msgspec.to_builtins(value)), indent=2, allow_nan=False))


def finite(value: object) -> object:
    """Replace every infinity and NaN by null, because JSON does not have them."""
    if isinstance(value, dict):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def say(line: str) -> None:
    """Print one line on stderr. If stderr is closed, go on without it."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def warn(line: str) -> None:
    say(f"warning: {line_of(line)}")


def escaped(text: object) -> str:
    """Escape everything in a text, such as a path, that could control a terminal or end the line."""
    return printable(str(text))


def warn_of(sections: Iterable[Section]) -> None:
    """Print the lines of the sections on stderr: notes as warnings, and other lines as they are."""
    for line in (block for section in sections for block in section.blocks if isinstance(block, Line)):
        (warn if line.tone == "note" else say)(line_of(line.text))


def argument(path: Path) -> str:
    """Write a path so that no command takes it for an option."""
    return f"./{path}" if str(path).startswith("-") else str(path)
