"""Computes the key of a build without importing torch. Builds with equal keys give the same bundle."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from paraexport.bundle import FORMAT, Bundle, read_bundle
from paraexport.checkpoint.shards import checkpoint_digest, checkpoint_file
from paraexport.errors import BundleError, CheckpointError
from paraexport.images.numpy_files import stored_arrays
from paraexport.system.extras import installed_versions
from paraexport.system.files import digest_path, file_digest
from paraexport.system.plain_paths import address_in

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
SOURCE_SUFFIXES = {".py", ".jinja", ".css"}
BESIDE = ("config.json", "preprocessor_config.json")
"""Files that are read from the checkpoint's folder if they exist."""


def library_versions() -> dict[str, str]:
    """Return the installed version of every library that may affect a bundle."""
    return installed_versions(LIBRARIES)


def build_key(checkpoint: Path, settings: Mapping[str, object], files: Mapping[str, Path]) -> str:
    """sha256 of everything that decides a bundle: checkpoint, files next to it, settings, data, libraries and code."""
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
    """Check the start of large files before hashing them, because hashing takes a second for each GB.

    Args:
        checkpoint: None if the user's own code reads it.
        files: images and labels.

    Raises:
        CheckpointError: the file is not a checkpoint.
        DataError: a file does not hold the array that its header describes.
    """
    if checkpoint is not None and checkpoint.stat().st_size >= LARGE_BYTES:
        from paraexport.checkpoint.files import checkpoint_kind, located

        with located(checkpoint):
            checkpoint_kind(checkpoint)
    for path in files:
        if path.suffix in {".npy", ".npz"} and path.is_file() and path.stat().st_size >= LARGE_BYTES:
            stored_arrays(path)


def sources() -> Iterator[tuple[str, Path]]:
    """List every source file of this package with its name, the templates of pages included."""
    root = Path(__file__).parents[1]
    for file in sorted(root.rglob("*")):
        if file.suffix in SOURCE_SUFFIXES:
            yield file.relative_to(root).as_posix(), file


def up_to_date(output: Path, key: str) -> Bundle | None:
    """Return the bundle at `output` if it has this key and is intact, else None."""
    try:
        bundle = read_bundle(output)
    except BundleError:
        return None
    return bundle if bundle.manifest.key == key else None


def require_file(path: Path) -> Path:
    """Return the file to read. For a folder, this is the index or the weights in it.

    Raises:
        CheckpointError: no such file exists, or it cannot be read.
    """
    if address := address_in(path):
        raise CheckpointError("a checkpoint must be a file on this machine", where=address, remedy="download it first")
    checkpoint = checkpoint_file(path)
    if not checkpoint.is_file():
        got = "a pipe or a device" if checkpoint.exists() else "nothing"
        expected = "a file or a folder of weights"
        raise CheckpointError("no checkpoint", where=checkpoint, expected=expected, got=got, remedy="check the path")
    try:
        checkpoint.open("rb").close()
    except OSError as error:
        raise CheckpointError("cannot be read", where=checkpoint, got=error.strerror) from error
    return checkpoint
