"""Opens the files of a model in one folder, for runtimes and readers."""

from __future__ import annotations

from pathlib import Path

from paraexport.errors import BundleError

MANIFEST, MODEL = "manifest.json", "model.onnx"
WEIGHTS = f"{MODEL}.data"
"""The weights of `model.onnx` if they are in a separate file."""
COPY_AGAIN = "copy the bundle again, or rebuild it with `paraexport build CKPT -o BUNDLE`"


def first_branches_model(count: int) -> str:
    """The model with only the first `count` branches, in a bundle that holds several."""
    return f"model.first{count}.onnx"


class Folder:
    """A folder that no other process changes, such as one that a build is filling."""

    def __init__(self, path: Path) -> None:
        self.path = path
        """The path that messages show."""

    def at(self, name: str) -> Path:
        """A path for a library that opens the file `name` by itself."""
        return self.path / name

    def named(self, text: str) -> str:
        """A message of a library, with the paths from `at` replaced by those that the user knows."""
        return text

    def has(self, name: str) -> bool:
        return self.at(name).is_file()

    def read(self, name: str) -> bytes:
        """The content of the file `name`.

        Raises:
            BundleError: the file does not exist, or cannot be read.
        """
        try:
            return self.at(name).read_bytes()
        except OSError as error:
            where = self.path / name
            raise BundleError("cannot be read", where=where, got=error.strerror, remedy=COPY_AGAIN) from error


class FirstBranches(Folder):
    """The same folder, but `model.onnx` is the model with only the first `count` branches."""

    def __init__(self, whole: Folder, count: int) -> None:
        super().__init__(whole.path)
        self.whole, self.file = whole, first_branches_model(count)

    def name(self, name: str) -> str:
        return self.file if name == MODEL else name

    def at(self, name: str) -> Path:
        return self.whole.at(self.name(name))

    def named(self, text: str) -> str:
        return self.whole.named(text)

    def has(self, name: str) -> bool:
        return self.whole.has(self.name(name))

    def read(self, name: str) -> bytes:
        return self.whole.read(self.name(name))


def model_bytes(folder: Folder, file: str = MODEL) -> int:
    """The size of the model `file`, with the weights beside it."""
    return sum(folder.at(name).stat().st_size for name in (file, f"{file}.data") if folder.has(name))
