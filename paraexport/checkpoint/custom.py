"""Runs `--module FILE.py:FUNCTION`. No other module runs code of the user."""

from __future__ import annotations

import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from paraexport.errors import InputError, first_line

Function = Callable[..., Any]


def split_name(name: str) -> tuple[Path, str]:
    """`FILE.py:FUNCTION` -> (file, function); an InputError for other texts."""
    file, colon, function = name.rpartition(":")
    if not colon or not file or not function.isidentifier():
        raise InputError("--module cannot be read", expected="FILE.py:FUNCTION", got=name)
    path = Path(file)
    if not path.is_file():
        got = "a folder" if path.is_dir() else "a pipe or a device" if path.exists() else "nothing there"
        raise InputError("no such file", where=f"--module {name}", expected=f"a Python file at {file}", got=got)
    return path, function


def module_function(name: str) -> tuple[Function, bool]:
    """The function `FILE.py:FUNCTION`, and whether it takes the path of the checkpoint.

    Raises:
        InputError: there is no such file or function, or the file raises an exception.
    """
    path, function = split_name(name)
    spec = importlib.util.spec_from_file_location(f"paraexport_module_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise InputError("not a Python file", where=f"--module {name}", expected="FILE.py:FUNCTION")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look up their module there
    with beside(path), explained(name, path):
        spec.loader.exec_module(module)
    make = getattr(module, function, None)
    if not callable(make):
        functions = [key for key, value in vars(module).items() if inspect.isfunction(value)]
        raise InputError(
            f"there is no function {function}", where=f"--module {name}", expected=f"one of {', '.join(functions)}"
        )
    parameters = [
        parameter
        for parameter in inspect.signature(make).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    ]
    if len(parameters) > 1 or any(parameter.kind is parameter.KEYWORD_ONLY for parameter in parameters):
        names = ", ".join(parameter.name for parameter in parameters)
        raise InputError(
            f"{function} has the parameters {names}",
            where=f"--module {name}",
            expected="at most one parameter without a default, for the path of the checkpoint",
        )
    return make, bool(parameters)


def call_function(make: Function, name: str, *arguments: Path) -> nn.Module:
    """Call `make` and return its module. An exception becomes an error with the line of the user's file."""
    path, _ = split_name(name)
    with beside(path), explained(name, path):
        module = make(*(str(argument) for argument in arguments))
    if not isinstance(module, nn.Module):
        raise InputError(
            "the function did not return a module",
            where=f"--module {name}",
            expected="a torch.nn.Module",
            got=type(module).__name__,
        )
    return module


@contextmanager
def beside(path: Path) -> Iterator[None]:
    """Let the file import modules in its own folder, as a script can."""
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


@contextmanager
def explained(name: str, path: Path) -> Iterator[None]:
    """Turn an exception of the user's code into an error that names its line."""
    try:
        yield
    except (Exception, SystemExit) as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        where = f"--module {name}" + (f", line {lines[-1]}" if lines else "")
        raise InputError(f"it raised {first_line(error)}", where=where, remedy=f"correct {path}") from error
