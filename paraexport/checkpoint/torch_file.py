"""Reads files of `torch.save`, in the zip format and the one before, without running code from them."""

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

from paraexport.checkpoint.bounds import Unfolded
from paraexport.checkpoint.pickle_outline import Outline, Refused
from paraexport.errors import CheckpointError, MissingError, ParaexportError, lack_of_memory, on_one_line

RESAVE = "save model.state_dict() where it was trained, or give a function that builds the model with --module"
AGAIN = "copy or save it again"
ZIP = b"PK\x03\x04"
MOST_CHARACTERS = 200
PACKED_PICKLE_BYTES = 2**20

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
def reading(what: str = "the file is truncated or damaged", remedy: str = AGAIN) -> Iterator[None]:
    """Around the call of a library that reads a checkpoint: whatever it raises, the file is at fault.

    Raises:
        CheckpointError: for every exception of the library but one.
        MissingError: there is not enough memory. What a damaged file asks for is bounded before.
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
    """`: what the library says`, in one line."""
    lines = str(error).partition("(Could this error message be improved?")[0].strip().splitlines()
    return f": {on_one_line(lines[0])[:MOST_CHARACTERS]}" if lines else ""


def load_safely(source: Path | IO[bytes]) -> object:
    """`torch.load(weights_only=True)` on the CPU, from a path or a binary stream.

    Raises:
        CheckpointError: it would run code, it is broken, or it unfolds to more than `bounds` allows.
    """
    if isinstance(source, Path):
        with source.open("rb") as file:
            return load_safely(file)
    with reading():
        check_outline(source)
        source.seek(0)
        with torch.serialization.safe_globals(harmless()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old formats, which are read all the same
            try:
                return torch.load(source, map_location="cpu", weights_only=True)
            except pickle.UnpicklingError as error:
                raise refusal(str(error)) from error


def check_outline(file: IO[bytes]) -> None:
    """Refuse what would take too much memory, and what torch would read as whatever the memory holds."""
    unfolded = Unfolded(file.seek(0, 2))
    file.seek(0)
    is_zip = file.read(len(ZIP)) == ZIP
    file.seek(0)
    try:
        if is_zip:
            check_zip_outline(file, unfolded)
        else:
            check_legacy_outline(file, unfolded)
    except Refused as error:
        raise CheckpointError(f"reading it could take any amount of memory: {error}", remedy=RESAVE) from error
    except MemoryError as error:  # for a length of the file that is more than the file
        raise CheckpointError("the file is truncated or damaged", remedy=AGAIN) from error


def check_zip_outline(file: IO[bytes], unfolded: Unfolded) -> None:
    # the same reader as that of torch.load, so that both see the same entries
    archive = torch._C.PyTorchFileReader(file)
    for name in archive.get_all_records():
        unfolded.add(archive.get_record_size(name))
    # torch.save packs nothing; a packed pickle of a small file could take minutes to read
    if archive.get_record_size("data.pkl") > max(unfolded.size_bytes, PACKED_PICKLE_BYTES):
        raise Refused("a pickle that is larger than the file")
    Outline(io.BytesIO(archive.get_record("data.pkl")), unfolded).load()


def check_legacy_outline(file: IO[bytes], unfolded: Unfolded) -> None:
    """Five pickles (a magic number, a version, the system, the content, keys of storages), then the storages."""
    if Outline(file, unfolded).load() != torch.serialization.MAGIC_NUMBER:
        return  # a pickle of another program; torch reads no further either
    for _ in range(2):
        Outline(file, unfolded).load()
    content = Outline(file, unfolded)
    content.load()
    unfolded.add(sum(content.storages.values()))
    keys = Outline(file, unfolded).load()
    if not isinstance(keys, list) or set(keys) != set(content.storages):
        raise ValueError("the list of its storages is not that of its tensors")


def refusal(message: str) -> CheckpointError:
    """What `torch.load(weights_only=True)` says of a pickle that it does not read, in one line."""
    named = re.search(r"GLOBAL ([\w.]+)", message)
    if named is None:
        reasons = [line for line in message.splitlines() if line.strip() and "documentation of torch.load" not in line]
        return CheckpointError(
            "this is a pickle, but not one of torch.save",
            got=reasons[-1].rpartition("WeightsUnpickler error:")[2].strip()[:MOST_CHARACTERS] if reasons else None,
            remedy=RESAVE,
        )
    if named[1].startswith("torch.nn.modules"):
        return CheckpointError(f"a whole nn.Module is pickled in it ({named[1]}), not its state dict", remedy=RESAVE)
    return CheckpointError(f"it holds a pickled {named[1]}, which could run any code and is not read", remedy=RESAVE)
