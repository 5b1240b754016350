"""Finds the format of a checkpoint file, and reads its weights without running code from it."""

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

from paraexport.checkpoint.bounds import UnpackedSize
from paraexport.checkpoint.config_files import configs_beside
from paraexport.checkpoint.shards import is_shard_index, read_index, refuse_distributed
from paraexport.checkpoint.torch_file import RESAVE, ZIP, load_safely, reading_file
from paraexport.errors import CheckpointError, InputError, SpecError, shortlist
from paraexport.system.plain_paths import plain


class CheckpointKind(Enum):
    """The format of a checkpoint file."""

    TORCH = "torch"
    SAFETENSORS = "safetensors"
    PROGRAM = "program"
    INDEX = "index"
    """An index lists the shards that hold the weights."""


@dataclass(frozen=True)
class Content:
    """The content of a file, as `torch.load(weights_only=True)` returns it, and the configs beside it."""

    value: object
    config: dict[str, Any]


def read_file(path: Path) -> Content:
    """Read a weights file: torch zip, legacy torch pickle, safetensors, or an index with its shards.

    Raises:
        CheckpointError: the file has another format, is broken or contains code.
    """
    kind = checkpoint_kind(path)
    value = read_shards(path) if kind is CheckpointKind.INDEX else read_weights(path, kind)
    return Content(value, configs_beside(path))


def read_weights(path: Path, kind: CheckpointKind) -> object:
    if kind is CheckpointKind.PROGRAM:
        raise CheckpointError(
            "this is an exported program, but weights are needed here", remedy="save model.state_dict()"
        )
    return read_safetensors(path) if kind is CheckpointKind.SAFETENSORS else load_safely(path)


def read_shards(index: Path) -> dict[str, Tensor]:
    """The tensors of all shards that an index lists.

    Raises:
        CheckpointError: a shard is missing or broken, or the shards and the index list different tensors.
    """
    listed = read_index(index)
    tensors: dict[str, Tensor] = {}
    problems: list[str] = []
    for file in sorted(set(listed.values())):
        shard = index.parent / file
        with located(shard):
            kind = checkpoint_kind(shard)
            if kind is CheckpointKind.INDEX:
                raise CheckpointError("this shard is itself an index", expected="a file of weights")
            content = read_weights(shard, kind)
        present = (
            {key: value for key, value in dict.items(content) if isinstance(value, Tensor)}
            if isinstance(content, dict)
            else {}
        )
        wanted = {name for name, holder in listed.items() if holder == file}
        problems += [f"{name!r} is not in {file}" for name in sorted(wanted - present.keys())]
        problems += [
            f"{name!r} is in {file}, but the index does not list it there"
            for name in sorted(map(str, present.keys() - wanted))
        ]
        tensors |= {name: present[name] for name in wanted & present.keys()}
    if problems:
        raise CheckpointError(
            f"the index and its shards do not fit each other: {shortlist(problems, 8)}",
            expected="each tensor in the shard that the index names, and nowhere else",
            remedy="copy the index and all shards again, from one place",
        )
    return tensors


@contextmanager
def located(path: Path) -> Iterator[None]:
    """Add the path to every error that has none."""
    try:
        yield
    except InputError as error:
        if error.where is not None:
            raise
        located = type(error)(error.what, where=path, expected=error.expected, got=error.got, remedy=error.remedy)
        if isinstance(error, SpecError) and isinstance(located, SpecError):
            located.open = error.open
        raise located from error.__cause__


def checkpoint_kind(path: Path) -> CheckpointKind:
    """Find the format of a file from its first bytes, not from its name.

    Raises:
        CheckpointError: the file is missing, empty, a folder, broken, or no checkpoint.
    """
    if path.is_dir():
        raise CheckpointError("a folder is no checkpoint", remedy="give the path of the weights file in it")
    refuse_distributed(path)
    if is_shard_index(path):
        return CheckpointKind.INDEX
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
        return CheckpointKind.SAFETENSORS
    if head[:1] == b"\x80":
        return CheckpointKind.TORCH
    if path.suffix.lower() == ".onnx":
        raise CheckpointError(
            "this is an ONNX file, not a checkpoint", remedy="paraexport optimize rewrites it, without a checkpoint"
        )
    raise CheckpointError(
        "this is no checkpoint",
        expected="a file of torch.save, safetensors or torch.export.save",
        got=f"a file that starts with {head[:8]!r}",
    )


def zip_kind(path: Path) -> CheckpointKind:
    with reading_file(), zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    inner = {name.partition("/")[2] for name in names}
    if {"archive_format", "models/model.json"} & inner:
        return CheckpointKind.PROGRAM
    if "constants.pkl" in inner or any(name.startswith("code/") for name in inner):
        raise CheckpointError(
            "this is a TorchScript archive", expected="a state dict or a torch.export program", remedy=RESAVE
        )
    if "data.pkl" in inner:
        return CheckpointKind.TORCH
    if "serialized_exported_program.json" in names:
        raise CheckpointError(
            "this program was exported with an old release of torch",
            expected="torch 2.8 or later",
            remedy="export it again",
        )
    raise CheckpointError(
        "this zip archive is no checkpoint",
        expected="a file of torch.save or torch.export.save",
        got=", ".join(names[:4]),
    )


def read_safetensors(path: Path) -> dict[str, Tensor]:
    unpacked = UnpackedSize(path.stat().st_size)
    with reading_file("the safetensors file is damaged"), safetensors.safe_open(plain(path), framework="pt") as file:
        keys = list(file.keys())
        for key in keys:
            unpacked.add_tensor(file.get_slice(key).get_shape())
        tensors: dict[str, Tensor] = {key: file.get_tensor(key) for key in keys}
        metadata = file.metadata() or {}
    # save_model stores tied tensors once, and lists "omitted name" -> "stored name" in the metadata
    tied = {name: tensors[stored] for name, stored in metadata.items() if name not in tensors and stored in tensors}
    return tensors | tied
