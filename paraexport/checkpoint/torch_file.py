"""Reads files of `torch.save`, in the zip format and in the legacy format, without running code from them."""

from __future__ import annotations

import argparse
import io
import pickle
import re
import types
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any, TypeAlias

import numpy as np
import torch

from paraexport.checkpoint.bounds import UnpackedSize
from paraexport.checkpoint.pickle_outline import ForbiddenCall, Outline
from paraexport.errors import CheckpointError, MissingError, ParaexportError, lack_of_memory, on_one_line

LOAD = (
    "save model.state_dict() where it was trained; or run the code in the file: write two lines into load.py, "
    "`import torch` and `make = lambda path: torch.load(path, weights_only=False)`, and give --module load.py:make"
)
RESAVE = "save model.state_dict() where it was trained, or give a function that builds the model with --module"
AGAIN = "copy or save it again"
ZIP = b"PK\x03\x04"
MOST_CHARACTERS = 200
PACKED_PICKLE_BYTES = 2**20

Harmless: TypeAlias = "Callable[..., Any] | tuple[Callable[..., Any], str]"


def harmless() -> list[Harmless]:
    """Classes that only hold data and are common in research checkpoints."""
    multiarray = np._core.multiarray  # type: ignore[attr-defined]
    functions: list[Harmless] = [argparse.Namespace, types.SimpleNamespace, np.dtype, np.ndarray]
    functions += [multiarray.scalar, multiarray._reconstruct]
    # their module before NumPy 2
    functions += [(multiarray.scalar, "numpy.core.multiarray.scalar")]
    functions += [(multiarray._reconstruct, "numpy.core.multiarray._reconstruct")]
    # paths of another system can only be made as pure paths; Python 3.13 keeps the classes in another module
    functions += [(PurePosixPath, f"{home}.PosixPath") for home in ("pathlib", "pathlib._local")]
    functions += [(PureWindowsPath, f"{home}.WindowsPath") for home in ("pathlib", "pathlib._local")]
    return functions + [type(np.dtype(code)) for code in "?bBhHiIlLqQefdSU"]


@contextmanager
def reading_file(what: str = "the file is truncated or damaged", remedy: str = AGAIN) -> Iterator[None]:
    """Wrap the call of a library that reads a checkpoint. Every exception of it means that the file is broken.

    Raises:
        CheckpointError: `what`, with the message of the library.
        MissingError: there is not enough memory. `bounds` refuses damaged files that ask for too much memory before.
    """
    try:
        yield
    except ParaexportError:
        raise
    except Exception as error:
        if lack_of_memory(error) is not None:
            raise MissingError("there is not enough memory to read the checkpoint", remedy="free memory") from error
        raise CheckpointError(f"{what}{detail(error)}", remedy=remedy) from error


def detail(error: Exception) -> str:
    """`: message of the library`, on one line."""
    lines = str(error).partition("(Could this error message be improved?")[0].strip().splitlines()
    return f": {on_one_line(lines[0])[:MOST_CHARACTERS]}" if lines else ""


def load_safely(source: Path | IO[bytes]) -> object:
    """`torch.load(weights_only=True)` on the CPU, from a path or a binary stream.

    Raises:
        CheckpointError: the file contains code, is broken, or its unpacked size is larger than `bounds` allows.
    """
    if isinstance(source, Path):
        with source.open("rb") as file:
            return load_safely(file)
    with reading_file():
        check_outline(source)
        source.seek(0)
        with torch.serialization.safe_globals(harmless()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about old formats, but reads them
            try:
                return torch.load(source, map_location="cpu", weights_only=True)
            except pickle.UnpicklingError as error:
                raise refusal(str(error)) from error


def check_outline(file: IO[bytes]) -> None:
    """Refuse pickles that would take too much memory, or from which torch would make uninitialised tensors."""
    unpacked = UnpackedSize(file.seek(0, 2))
    file.seek(0)
    is_zip = file.read(len(ZIP)) == ZIP
    file.seek(0)
    try:
        if is_zip:
            check_zip_outline(file, unpacked)
        else:
            check_legacy_outline(file, unpacked)
    except ForbiddenCall as error:
        raise CheckpointError(f"reading it could take too much memory: {error}", remedy=RESAVE) from error
    except MemoryError as error:  # the file contains a length that is longer than the file
        raise CheckpointError("the file is truncated or damaged", remedy=AGAIN) from error


def check_zip_outline(file: IO[bytes], unpacked: UnpackedSize) -> None:
    # torch.load uses the same reader, so both see the same entries
    archive = torch._C.PyTorchFileReader(file)
    for name in archive.get_all_records():
        unpacked.add(archive.get_record_size(name))
    # torch.save does not compress; a compressed pickle in a small file could take minutes to read
    if archive.get_record_size("data.pkl") > max(unpacked.size_bytes, PACKED_PICKLE_BYTES):
        raise ForbiddenCall("its pickle is larger than the file")
    Outline(io.BytesIO(archive.get_record("data.pkl")), unpacked).load()


def check_legacy_outline(file: IO[bytes], unpacked: UnpackedSize) -> None:
    """Check the legacy format: five pickles (magic number, version, system, content, storage keys), then storages."""
    if Outline(file, unpacked).load() != torch.serialization.MAGIC_NUMBER:
        return  # another program wrote this pickle; torch stops here too
    for _ in range(2):
        Outline(file, unpacked).load()
    content = Outline(file, unpacked)
    content.load()
    unpacked.add(sum(content.storages.values()))
    keys = Outline(file, unpacked).load()
    if not isinstance(keys, list) or set(keys) != set(content.storages):
        raise ValueError("its list of storages does not match its tensors")


def refusal(message: str) -> CheckpointError:
    """The error for a pickle that `torch.load(weights_only=True)` refuses with this message."""
    named = re.search(r"GLOBAL ([\w.]+)", message)
    if named is None:
        reasons = [line for line in message.splitlines() if line.strip() and "documentation of torch.load" not in line]
        return CheckpointError(
            "this is a pickle, but not one of torch.save",
            got=reasons[-1].rpartition("WeightsUnpickler error:")[2].strip()[:MOST_CHARACTERS] if reasons else None,
            remedy=RESAVE,
        )
    if named[1].startswith("torch.nn.modules"):
        return CheckpointError(f"the file holds a pickled nn.Module ({named[1]}), not a state dict", remedy=LOAD)
    return CheckpointError(f"the file holds a pickled {named[1]}, which could run any code", remedy=RESAVE)
