"""Reads the text and JSON files beside a checkpoint: regular files of a bounded size, in UTF-8."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paraexport.errors import CheckpointError, on_one_line

CONFIG_FILES = ("config.json", "preprocessor_config.json")
MOST_BYTES = 16 * 2**20
"""The config of ImageNet-21k with all its labels has 2 MB."""
DEEPEST = 100
"""Levels of lists and objects; configs have a handful."""


def configs_beside(path: Path) -> dict[str, Any]:
    """The JSON configs in the file's folder, by the names of their files.

    Raises:
        CheckpointError: a config that is no JSON object, or no regular file of a sensible size.
    """
    configs: dict[str, Any] = {}
    for name in CONFIG_FILES:
        beside = path.parent / name
        if beside.exists() and not beside.is_dir():
            configs[name] = read_config(beside)
    return configs


def read_config(path: Path) -> dict[str, Any]:
    """The JSON object in the file at `path`."""
    remedy = "correct it, or move it away"
    try:
        value = parse_json(read_text(path))
    except CheckpointError as error:
        raise CheckpointError(
            f"{path} beside it {error.what}", expected=error.expected, remedy=remedy
        ) from error.__cause__
    except ValueError as error:
        raise CheckpointError(f"{path} beside it is no JSON: {error}", remedy=remedy) from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} beside it is no JSON object", remedy=remedy)
    return value


def read_text(path: Path) -> str:
    """The text of a small file.

    Raises:
        CheckpointError: no regular file, or one of over 16 MiB.
        ValueError: no UTF-8.
    """
    try:
        # without O_NONBLOCK the opening of a FIFO waits for a writer
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise CheckpointError("this is a pipe, a device or a folder, not a file")
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise CheckpointError(f"cannot be read: {error.strerror}") from error
    except ValueError as error:  # a path with a null character
        raise CheckpointError(f"cannot be read: {error}") from error
    if len(content) > MOST_BYTES:
        raise CheckpointError("is too large", expected=f"at most {MOST_BYTES >> 20} MiB")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError("expected a text file in UTF-8") from error


def parse_json(text: str) -> object:
    """The value of a JSON text; a ValueError of one line where it is none, or ambiguous.

    An object with the same key twice is refused, and so is half a surrogate pair, which nothing can write as UTF-8.
    """
    try:
        value = json.loads(text, object_pairs_hook=without_doubles)
        check_depth(value)
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError("half a surrogate pair stands in it") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(on_one_line(error)[:200]) from error
    return value


def without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for key, value in pairs:
        if key in content:
            raise ValueError(f"the key {key[:60]!r} stands there twice")
        content[key] = value
    return content


def check_depth(value: object) -> None:
    level = [value]
    for _ in range(DEEPEST):
        level = [
            inner
            for outer in level
            if isinstance(outer, list | Mapping)
            for inner in (outer.values() if isinstance(outer, Mapping) else outer)
        ]
        if not level:
            return
    raise ValueError(f"more than {DEEPEST} levels")
