"""Tells what kind a checkpoint file is, and reads weights out of it without ever running code from it."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from paraexport.checkpoint.bounds import Unfolded
from paraexport.checkpoint.config_files import configs_beside
from paraexport.checkpoint.given import truncated
from paraexport.checkpoint.shards import is_index, read_index, refuse_distributed
from paraexport.checkpoint.torch_file import RESAVE, ZIP, load_safely, reading
from paraexport.errors import CheckpointError, InputError
from paraexport.system.plain_paths import plain


class Kind(Enum):
    TORCH = "torch"
    SAFETENSORS = "safetensors"
    PROGRAM = "program"
    INDEX = "index"
    """It lists the shards that hold the weights."""


@dataclass(frozen=True)
class Content:
    """What a file holds: anything that `torch.load(weights_only=True)` returns, and the configs beside it."""

    value: object
    config: dict[str, Any]


def read_file(path: Path) -> Content:
    """Read a weights file: torch zip, legacy torch pickle, safetensors, or an index with its shards.

    Raises:
        CheckpointError: anything else, or a file that is broken or would run code.
    """
    kind = file_kind(path)
    value = read_shards(path) if kind is Kind.INDEX else read_weights(path, kind)
    return Content(value, configs_beside(path))


def read_weights(path: Path, kind: Kind) -> object:
    if kind is Kind.PROGRAM:
        raise CheckpointError("this is a program, where only weights are read", remedy="save model.state_dict()")
    return read_safetensors(path) if kind is Kind.SAFETENSORS else load_safely(path)


def read_shards(index: Path) -> dict[str, Tensor]:
    """The tensors of all shards that an index lists.

    Raises:
        CheckpointError: a shard is missing or broken, or does not hold what the index says, all of it and no more.
    """
    listed = read_index(index)
    tensors: dict[str, Tensor] = {}
    problems: list[str] = []
    for file in sorted(set(listed.values())):
        shard = index.parent / file
        with located(shard):
            kind = file_kind(shard)
            if kind is Kind.INDEX:
                raise CheckpointError("a shard is an index itself", expected="a file of weights")
            content = read_weights(shard, kind)
        held = (
            {key: value for key, value in dict.items(content) if isinstance(value, Tensor)}
            if isinstance(content, dict)
            else {}
        )
        wanted = {name for name, holder in listed.items() if holder == file}
        problems += [f"{name!r} is not in {file}" for name in sorted(wanted - held.keys())]
        problems += [
            f"{name!r} is in {file}, and not in the index there" for name in sorted(map(str, held.keys() - wanted))
        ]
        tensors |= {name: held[name] for name in wanted & held.keys()}
    if problems:
        raise CheckpointError(
            f"the index and its shards do not fit each other: {truncated(problems, 8)}",
            expected="each tensor in the shard that the index names, and nowhere else",
            remedy="copy the index and all shards again, from one place",
        )
    return tensors


@contextmanager
def located(path: Path) -> Iterator[None]:
    """Give every error the path it is about."""
    try:
        yield
    except InputError as error:
        if error.where is not None:
            raise
        raise type(error)(
            error.what, where=path, expected=error.expected, got=error.got, remedy=error.remedy
        ) from error.__cause__


def file_kind(path: Path) -> Kind:
    """Tell by its first bytes, not its name, what a file is.

    Raises:
        CheckpointError: it is missing, empty, a directory, broken, or no checkpoint.
    """
    if path.is_dir():
        raise CheckpointError("a directory is no checkpoint", remedy="name the weights file inside it")
    refuse_distributed(path)
    if is_index(path):
        return Kind.INDEX
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except FileNotFoundError as error:
        raise CheckpointError("no such file") from error
    except OSError as error:
        raise CheckpointError(f"cannot be read: {error.strerror}") from error
    if not head:
        raise CheckpointError("the file is empty", remedy="copy or save it again")
    if head.startswith(ZIP):
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
    with reading(), zipfile.ZipFile(path) as archive:
        names = archive.namelist()
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


def read_safetensors(path: Path) -> dict[str, Tensor]:
    unfolded = Unfolded(path.stat().st_size)
    with reading("not a whole safetensors file"), safetensors.safe_open(plain(path), framework="pt") as file:
        keys = list(file.keys())
        for key in keys:
            unfolded.add_tensor(file.get_slice(key).get_shape())
        tensors: dict[str, Tensor] = {key: file.get_tensor(key) for key in keys}
        metadata = file.metadata() or {}
    # save_model stores what is tied once, and notes "name left out" -> "name kept"
    return tensors | {left: tensors[kept] for left, kept in metadata.items() if left not in tensors and kept in tensors}
