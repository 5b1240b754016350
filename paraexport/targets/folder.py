"""The files of a model in one folder, as runtimes and readers open them."""

from __future__ import annotations

from pathlib import Path

from paraexport.errors import BundleError

MANIFEST, MODEL = "manifest.json", "model.onnx"
WEIGHTS = f"{MODEL}.data"
"""Weights of `model.onnx` outside it."""
COPY_AGAIN = "copy the bundle again, or rebuild it with `paraexport build CKPT -o BUNDLE`"


class Folder:
    """A folder that nobody else writes to, such as one that a build is filling."""

    def __init__(self, path: Path) -> None:
        self.path = path
        """As messages name it."""

    def at(self, name: str) -> Path:
        """A path for a library that opens the file `name` by itself."""
        return self.path / name

    def named(self, text: str) -> str:
        """What a library says, with the paths of `at` as the user knows them."""
        return text

    def has(self, name: str) -> bool:
        return self.at(name).is_file()

    def read(self, name: str) -> bytes:
        """The content of the file `name`.

        Raises:
            BundleError: it is not there, or cannot be read.
        """
        try:
            return self.at(name).read_bytes()
        except OSError as error:
            where = self.path / name
            raise BundleError("cannot be read", where=where, got=error.strerror, remedy=COPY_AGAIN) from error
