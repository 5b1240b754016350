"""Writes the command line of a build, for its report."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

from paraexport.findings.words import option_text
from paraexport.pipeline.choices import AUTO, FOLDED
from paraexport.pipeline.declaration import Option, declared_options
from paraexport.pipeline.options import Options
from paraexport.system.plain_paths import name_of, readable
from paraexport.targets.compilation import EngineOptions

NUMBERS = {"branches": ",", "branches_at_load": ""}
"""Options that are numbers with commas, and what follows a single number."""


def command_line(source: Path, output: Path, options: Options) -> str:
    """`paraexport build model.pt --data test -o model.bundle`: all options that differ from their defaults.

    Files and folders have their names only, because the report goes to other machines.
    """
    words = ["paraexport", "build", argument(name_of(source)), *option_words(options), "-o", argument(name_of(output))]
    return shlex.join(map(readable, words))


def argument(name: str) -> str:
    """Write a name so that no command takes it for an option."""
    return f"./{name}" if name.startswith("-") else name


def option_words(options: Options) -> Iterator[str]:
    usual = {"layout": AUTO if options.target == AUTO else FOLDED}
    for declared in declared_options(Options):
        value = getattr(options, declared.name)
        if declared.name == "engine":
            yield from engine_words(value)
        elif value != usual.get(declared.name, declared.default):
            yield from words_of(declared, value)


def words_of(declared: Option, value: object) -> Iterator[str]:
    if isinstance(value, bool):
        yield declared.flag
    elif isinstance(value, Mapping):
        for name, entry in value.items():
            yield from (declared.flag, f"{name}={shown(name, entry)}")
    elif isinstance(value, tuple) and declared.name in NUMBERS:
        yield from (declared.flag, f"{','.join(map(str, value))}{NUMBERS[declared.name] if len(value) == 1 else ''}")
    elif isinstance(value, tuple):
        for entry in value:
            yield from (declared.flag, entry)
    else:
        yield from (declared.flag, shown(declared.name, value))


def shown(name: str, value: object) -> str:
    """Write a value as on the command line, without the folders of paths."""
    if name in ("module", "labels"):
        return argument(name_of(Path(str(value))))
    return argument(name_of(value)) if isinstance(value, Path) else option_text(value)


def engine_words(engine: EngineOptions) -> Iterator[str]:
    defaults = EngineOptions()
    for capability in engine.compute_capabilities:
        yield from ("--compute-capability", capability)
    for profile in engine.profiles:
        yield from ("--profile", str(profile))
    for field in dataclasses.fields(EngineOptions):
        value = getattr(engine, field.name)
        if field.name not in ("compute_capabilities", "profiles") and value != getattr(defaults, field.name):
            yield from ("--engine", f"{field.name}={option_text(value)}")
