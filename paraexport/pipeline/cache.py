"""The key of a build: equal keys mean that the bundle would come out the same. Computed without importing torch."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from paraexport.bundle import FORMAT, Bundle, read_bundle
from paraexport.checkpoint.shards import checkpoint_digest, checkpoint_file
from paraexport.errors import BundleError, CheckpointError
from paraexport.images.numpy_files import stored_arrays
from paraexport.system.files import digest_path, file_digest

LIBRARIES = (
    "torch",
    "onnx",
    "onnxscript",
    "onnx-ir",
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-ep-nv-tensorrt-rtx",
    "openvino",
    "tensorrt",
    "tensorrt-cu13",
    "tensorrt-rtx",
    "numpy",
    "pillow",
    "safetensors",
)
LARGE_BYTES = 1 << 30
BESIDE = ("config.json", "preprocessor_config.json")
"""Files that are read from the checkpoint's folder when they are there."""


def library_versions() -> dict[str, str]:
    """The installed version of every library that has a part in a bundle."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def build_key(checkpoint: Path, settings: Mapping[str, object], files: Mapping[str, Path]) -> str:
    """sha256 of all that decides a bundle: the checkpoint, files beside it, settings, data, libraries and this code."""
    beside = {name: checkpoint.parent / name for name in BESIDE if (checkpoint.parent / name).is_file()}
    parts = {
        "format": FORMAT,
        "checkpoint": [checkpoint.name, checkpoint_digest(checkpoint)],
        "files": {name: digest_path(path) for name, path in {**beside, **files}.items()},
        "settings": dict(settings),
        "libraries": library_versions(),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "code": [[name, file_digest(file).hex()] for name, file in sources()],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def refuse_junk(checkpoint: Path | None, files: Iterable[Path]) -> None:
    """Look at the start of large files before they are hashed, which takes a second for each GB.

    Args:
        checkpoint: None if code of the user's own reads it.
        files: images and labels.

    Raises:
        CheckpointError: it is no checkpoint.
        DataError: an array that its file does not hold.
    """
    if checkpoint is not None and checkpoint.stat().st_size >= LARGE_BYTES:
        from paraexport.checkpoint.files import checkpoint_kind, located

        with located(checkpoint):
            checkpoint_kind(checkpoint)
    for path in files:
        if path.suffix in {".npy", ".npz"} and path.is_file() and path.stat().st_size >= LARGE_BYTES:
            stored_arrays(path)


def sources() -> Iterator[tuple[str, Path]]:
    """Every source file of this package by its name."""
    root = Path(__file__).parents[1]
    for file in sorted(root.rglob("*.py")):
        yield file.relative_to(root).as_posix(), file


def up_to_date(output: Path, key: str) -> Bundle | None:
    """The bundle at `output` when it was built from the same key and is whole."""
    try:
        bundle = read_bundle(output)
    except BundleError:
        return None
    return bundle if bundle.manifest.key == key else None


def require_file(path: Path) -> Path:
    """The file to read, which for a folder is the index or the weights in it.

    Raises:
        CheckpointError: there is none, or it cannot be read.
    """
    checkpoint = checkpoint_file(path)
    if not checkpoint.is_file():
        got = "a pipe or a device" if checkpoint.exists() else "nothing there"
        expected = "a file or a folder of weights"
        raise CheckpointError("no checkpoint", where=checkpoint, expected=expected, got=got, remedy="check the path")
    try:
        checkpoint.open("rb").close()
    except OSError as error:
        raise CheckpointError("cannot be read", where=checkpoint, got=error.strerror) from error
    return checkpoint
