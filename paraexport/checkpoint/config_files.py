"""Reads the text and JSON files beside a checkpoint: regular UTF-8 files of limited size."""

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
"""A config with all labels of ImageNet-21k has 2 MB."""
DEEPEST = 100
"""The most levels of nested lists and objects. Configs have only a few."""


def configs_beside(path: Path) -> dict[str, Any]:
    """The JSON configs in the folder of the checkpoint, by their file names.

    Raises:
        CheckpointError: a config is no JSON object, no regular file, or too large.
    """
    configs: dict[str, Any] = {}
    for name in CONFIG_FILES:
        beside = path.parent / name
        if beside.exists() and not beside.is_dir():
            configs[name] = read_config(beside)
    return configs


def read_config(path: Path) -> dict[str, Any]:
    """The JSON object in the file at `path`."""
    remedy = "correct the file, or move it to another folder"
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
        CheckpointError: it is no regular file, it is larger than 16 MiB, or it cannot be read.
        ValueError: it is not UTF-8.
    """
    try:
        # without O_NONBLOCK, opening a pipe waits for a writer
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise CheckpointError("is a pipe, a device or a folder, not a file")
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
    """The value of a JSON text.

    Raises:
        ValueError: it is no JSON, a key occurs twice, or a text contains half a surrogate pair, which cannot be written
            as UTF-8. The message is one line.
    """
    try:
        value = json.loads(text, object_pairs_hook=without_repeated_keys)
        check_depth(value)
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError("it contains half a surrogate pair") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(on_one_line(error)[:200]) from error
    return value


def without_repeated_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these pairs. A ValueError names the first key that occurs twice."""
    content: dict[str, Any] = {}
    for key, value in pairs:
        if key in content:
            raise ValueError(f"the key {key[:60]!r} occurs twice")
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
