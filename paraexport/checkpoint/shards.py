"""Finds the files of a checkpoint: one file, or an index and its shards. Imports no torch."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath

from paraexport.checkpoint.config_files import without_repeated_keys
from paraexport.errors import CheckpointError, shortlist
from paraexport.system.files import file_digest

INDEX = ".index.json"
INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
WHOLE = ("model.safetensors", "pytorch_model.bin")
"""The names that Hugging Face gives to weights in one file."""
DISTRIBUTED = (".distcp", ".metadata")
MOST_BYTES = 64 * 2**20
"""The largest index that is read."""
LISTED = 8
MANIFEST = "manifest.json"
SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".safetensors", ".pt2")


def checkpoint_file(path: Path) -> Path:
    """The file to read: `path` itself, or the index or the only file of weights in the folder `path`.

    Raises:
        CheckpointError: the folder has neither, or it is a checkpoint of torch.distributed.checkpoint.
    """
    if not path.is_dir():
        return path
    refuse_distributed(path)
    if (file := weights_in(path)) is None:
        if (path / MANIFEST).is_file():
            remedy = "it needs no build: use predict or validate, or give the checkpoint that it was built from"
            raise CheckpointError("this is a bundle, not a checkpoint", where=path, remedy=remedy)
        near = shortlist(sorted(file.name for file in path.iterdir() if file.suffix in SUFFIXES), 4)
        raise CheckpointError(
            "the folder contains no checkpoint",
            where=path,
            expected=f"one of {', '.join((*INDEXES, *WHOLE))}",
            remedy=f"give the path of the file with the weights{f', such as {near}' if near else ''}",
        )
    return file


def weights_in(folder: Path) -> Path | None:
    """The index or the file of weights with a usual name, or the only index."""
    for name in (*INDEXES, *WHOLE):
        if (folder / name).is_file():
            return folder / name
    indexes = sorted(folder.glob(f"*{INDEX}"))
    return indexes[0] if len(indexes) == 1 else None


def is_checkpoint_folder(path: Path) -> bool:
    """Whether this folder holds weights, in a supported format or in one whose error names a remedy."""
    return weights_in(path) is not None or any(path.glob("*.distcp"))


def refuse_distributed(path: Path) -> None:
    """Refuse a checkpoint of torch.distributed.checkpoint. The error contains the command that converts it."""
    parts = sorted(path.glob("*.distcp")) if path.is_dir() else []
    if not parts and not (path.name.endswith(DISTRIBUTED) and path.is_file()):
        return
    folder = path if parts else path.absolute().parent
    convert = ["python", "-m", "torch.distributed.checkpoint.format_utils", "dcp_to_torch"]
    command = " ".join(map(shlex.quote, [*convert, str(folder), f"{folder.absolute().name}.pt"]))
    raise CheckpointError(
        "this is a checkpoint of torch.distributed.checkpoint, in several files",
        where=path,
        expected="one file of weights",
        remedy=f"if you trust it, convert it (this runs pickled code): {command}",
    )


def is_shard_index(path: Path) -> bool:
    return path.name.endswith(INDEX)


def read_index(path: Path) -> dict[str, str]:
    """Read an index: the name of each tensor -> the name of its shard.

    Raises:
        CheckpointError: the file is no index, a name occurs twice, or a shard is missing or outside the folder.
    """
    expected = 'an index such as {"weight_map": {"head.weight": "model-00001-of-00002.safetensors"}}'
    try:
        if path.stat().st_size > MOST_BYTES:
            raise CheckpointError("the index is too large", where=path, expected=f"at most {MOST_BYTES} bytes")
        content = json.loads(path.read_bytes(), object_pairs_hook=without_repeated_keys)
    except OSError as error:
        raise CheckpointError(f"cannot be read: {error.strerror}", where=path) from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError("the index is damaged", where=path, expected=expected, got=str(error)[:200]) from error
    listed = content.get("weight_map") if isinstance(content, Mapping) else None
    if not isinstance(listed, Mapping) or not listed or not all(isinstance(file, str) for file in listed.values()):
        raise CheckpointError("the index lists no weights", where=path, expected=expected)
    files = sorted(set(listed.values()))
    if outside := [repr(file)[: LISTED * 10] for file in files if not is_inside(file)]:
        raise CheckpointError(
            f"the index names files outside its folder: {shortlist(outside, LISTED)}",
            where=path,
            expected="names of files beside it",
        )
    if missing := [file for file in files if not (path.parent / file).is_file()]:
        raise CheckpointError(
            f"{len(missing)} of {len(files)} shards are missing: {shortlist(missing, LISTED)}",
            where=path,
            expected="every shard beside the index",
            remedy="copy them too",
        )
    return dict(listed)


def is_inside(file: str) -> bool:
    """Whether this name, on any system, is that of a file in the folder or below it."""
    if not file or not file.isprintable():
        return False
    paths = (PurePosixPath(file), PureWindowsPath(file))
    return not any(path.is_absolute() or path.drive or path.root or ".." in path.parts for path in paths)


def weight_files(path: Path) -> list[Path]:
    """Every file with weights of this checkpoint, the index first."""
    if not is_shard_index(path):
        return [path]
    return [path, *(path.parent / file for file in sorted(set(read_index(path).values())))]


def weights_bytes(path: Path) -> int:
    """The size of all files of the checkpoint together."""
    return sum(file.stat().st_size for file in weight_files(path))


def checkpoint_digest(path: Path) -> str:
    """The sha256 of the file, in hex; for an index, the sha256 of the names and digests of index and shards."""
    files = weight_files(path)
    if len(files) == 1:
        return file_digest(path).hex()
    sha256 = hashlib.sha256()
    for file in files:
        sha256.update(file.relative_to(path.parent).as_posix().encode() + b"\0" + file_digest(file))
    return sha256.hexdigest()


def bundle_name(path: Path) -> str:
    """The default name of the bundle: `vit.pt` and the folder `vit` -> `vit.bundle`."""
    if path.is_dir():
        return f"{path.absolute().name}.bundle"
    name = path.name.removesuffix(INDEX) if is_shard_index(path) else path.name
    return f"{Path(name).stem}.bundle"
