"""Reads checkpoint files without ever running code from them."""

from __future__ import annotations

import argparse
import json
import pickle
import re
import types
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, TypeAlias

import numpy as np
import safetensors
import safetensors.torch
import torch

from paraexport.checkpoint.config import as_mapping
from paraexport.errors import CheckpointError
from paraexport.plain_paths import plain

CONFIG_FILES = ("config.json", "preprocessor_config.json")
RESAVE = "save model.state_dict() where it was trained, or give a function that builds the model with --module"


class Kind(Enum):
    TORCH = "torch"
    SAFETENSORS = "safetensors"
    PROGRAM = "program"


@dataclass(frozen=True)
class Content:
    """What a file holds: anything that `torch.load(weights_only=True)` returns, and the configs beside it."""

    value: object
    config: dict[str, Any]


def read_file(path: Path) -> Content:
    """Read a weights file: torch zip, legacy torch pickle, or safetensors.

    Raises:
        CheckpointError: anything else, or a file that is broken or would run code.
    """
    value = read_safetensors(path) if file_kind(path) is Kind.SAFETENSORS else load_safely(path)
    return Content(value, configs_beside(path))


def file_kind(path: Path) -> Kind:
    """Tell by its first bytes, not its name, what a file is.

    Raises:
        CheckpointError: it is missing, empty, a directory, broken, or no checkpoint.
    """
    if path.is_dir():
        raise CheckpointError("a directory is no checkpoint", remedy="name the weights file inside it")
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except FileNotFoundError as error:
        raise CheckpointError("no such file") from error
    except OSError as error:
        raise CheckpointError(f"cannot be read: {error.strerror}") from error
    if not head:
        raise CheckpointError("the file is empty", remedy="copy or save it again")
    if head.startswith(b"PK\x03\x04"):
        return zip_kind(path)
    if head[8:9] == b"{" or path.suffix == ".safetensors":
        return Kind.SAFETENSORS
    if head[:1] == b"\x80":
        return Kind.TORCH
    raise CheckpointError(
        "this is no checkpoint",
        expected="a file of torch.save, safetensors or torch.export.save",
        got=f"a file that starts with {head[:8]!r}",
    )


def zip_kind(path: Path) -> Kind:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile as error:
        raise CheckpointError("the file is truncated or damaged", remedy="copy or save it again") from error
    inner = {name.partition("/")[2] for name in names}
    if {"archive_format", "models/model.json"} & inner:
        return Kind.PROGRAM
    if "constants.pkl" in inner or any(name.startswith("code/") for name in inner):
        raise CheckpointError(
            "this is a TorchScript archive", expected="a state dict or a torch.export program", remedy=RESAVE
        )
    if "data.pkl" in inner:
        return Kind.TORCH
    if "serialized_exported_program.json" in names:
        raise CheckpointError(
            "this program was exported by an old torch", expected="torch 2.8 or later", remedy="export it again"
        )
    raise CheckpointError(
        "this zip archive is no checkpoint",
        expected="a file of torch.save or torch.export.save",
        got=", ".join(names[:4]),
    )


def read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        with safetensors.safe_open(plain(path), framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except (safetensors.SafetensorError, OSError, KeyError, ValueError) as error:
        raise CheckpointError(f"not a whole safetensors file: {error}", remedy="copy or save it again") from error
    # save_model stores what is tied once, and notes "name left out" -> "name kept"
    return tensors | {left: tensors[kept] for left, kept in metadata.items() if left not in tensors and kept in tensors}


def configs_beside(path: Path) -> dict[str, Any]:
    """The JSON configs in the file's folder, one over the other.

    Raises:
        CheckpointError: a config that is no JSON object.
    """
    config: dict[str, Any] = {}
    for name in CONFIG_FILES:
        beside = path.parent / name
        if not beside.is_file():
            continue
        try:
            read = as_mapping(json.loads(beside.read_text(encoding="utf-8")))
        except (ValueError, RecursionError) as error:
            raise CheckpointError(f"{beside} beside it is no JSON: {error}") from error
        if read is None:
            raise CheckpointError(f"{beside} beside it is no JSON object")
        config |= read
    return config


Harmless: TypeAlias = "Callable[..., Any] | tuple[Callable[..., Any], str]"


def harmless() -> list[Harmless]:
    """Classes often met in research checkpoints which only hold data."""
    multiarray = np._core.multiarray  # type: ignore[attr-defined]
    functions: list[Harmless] = [argparse.Namespace, types.SimpleNamespace, np.dtype, np.ndarray]
    functions += [multiarray.scalar, multiarray._reconstruct]
    # the home of these before NumPy 2
    functions += [(multiarray.scalar, "numpy.core.multiarray.scalar")]
    functions += [(multiarray._reconstruct, "numpy.core.multiarray._reconstruct")]
    # a path of another system cannot be made here, a pure one can; Python 3.13 keeps them in another module
    functions += [(PurePosixPath, f"{home}.PosixPath") for home in ("pathlib", "pathlib._local")]
    functions += [(PureWindowsPath, f"{home}.WindowsPath") for home in ("pathlib", "pathlib._local")]
    return functions + [type(np.dtype(code)) for code in "?bBhHiIlLqQefdSU"]


@contextmanager
def one_line() -> Iterator[None]:
    """Translate what torch says of a file it does not load."""
    try:
        yield
    except pickle.UnpicklingError as error:
        raise refusal(str(error)) from error
    except (EOFError, RuntimeError, OSError, ValueError, LookupError, TypeError, AttributeError, MemoryError) as error:
        lines = str(error).partition("(Could this error message be improved?")[0].strip().splitlines()
        detail = f": {lines[0][:200].strip()}" if lines else ""
        raise CheckpointError(f"the file is truncated or damaged{detail}", remedy="copy or save it again") from error


def load_safely(source: Path | Any) -> object:
    """`torch.load(weights_only=True)` on the CPU, from a path or a binary stream.

    Raises:
        CheckpointError: it would run code, or is broken.
    """
    with one_line(), torch.serialization.safe_globals(harmless()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of old formats, which are read all the same
        return torch.load(source, map_location="cpu", weights_only=True)


def refusal(message: str) -> CheckpointError:
    """What `torch.load(weights_only=True)` says of a pickle that it does not read, in one line."""
    named = re.search(r"GLOBAL ([\w.]+)", message)
    if named is None:
        reasons = [line for line in message.splitlines() if line.strip() and "documentation of torch.load" not in line]
        return CheckpointError(
            "this is a pickle, but not one of torch.save",
            got=reasons[-1].rpartition("WeightsUnpickler error:")[2].strip()[:200] if reasons else None,
            remedy=RESAVE,
        )
    if named[1].startswith("torch.nn.modules"):
        return CheckpointError(f"a whole nn.Module is pickled in it ({named[1]}), not its state dict", remedy=RESAVE)
    return CheckpointError(f"it holds a pickled {named[1]}, which could run any code and is not read", remedy=RESAVE)
