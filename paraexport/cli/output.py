"""What the commands print: results on stdout, everything else on stderr."""

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
    """Print `value`, of dataclasses, mappings, sequences, text and numbers, as one JSON object on stdout."""
    import msgspec

    print(json.dumps(finite(msgspec.to_builtins(value)), indent=2, allow_nan=False))


def finite(value: object) -> object:
    """`value` with null for every infinity and NaN, which JSON does not have."""
    if isinstance(value, dict):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def say(line: str) -> None:
    """Print one line on stderr; where nobody listens there, the work goes on."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def warn(line: str) -> None:
    say(f"warning: {line_of(line)}")


def escaped(text: object) -> str:
    """`text`, such as a path, with an escape for everything that could steer a terminal or end the line."""
    return printable(str(text))


def warn_of(sections: Iterable[Section]) -> None:
    """Print the lines of the sections on stderr: notes as warnings, and other lines as they are."""
    for line in (block for section in sections for block in section.blocks if isinstance(block, Line)):
        (warn if line.tone == "note" else say)(line_of(line.text))


def argument(path: Path) -> str:
    """A path that no command takes for an option."""
    return f"./{path}" if str(path).startswith("-") else str(path)
