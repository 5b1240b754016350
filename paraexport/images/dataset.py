"""Opens images and labels for checks, accuracy and calibration: folders, .npy, .npz, or made-up images.

Opening a folder decodes every image file once, in addition to the decoding when the images are read. So unreadable
files are known by name before anything runs, and cannot shift a label or a batch.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from paraexport.errors import DataError
from paraexport.images.arrays import open_array
from paraexport.images.files import image_files
from paraexport.images.preprocess import prepare_file, read_image
from paraexport.images.wording import counted, shortened
from paraexport.model.spec import Preprocessing
from paraexport.system.files import file_digest
from paraexport.system.plain_paths import name_of

SHOWN = 8
"""Names in a message; it counts the rest."""


class _Source(Protocol):
    """Where images come from. `identify` updates a hash with everything that decides what `read` returns."""

    def __len__(self) -> int: ...
    def pixels(self, index: int) -> NDArray[np.uint8] | None: ...
    def read(self, indices: NDArray[np.intp]) -> NDArray[np.float32]: ...
    def identify(self, sha256: Any) -> None: ...
    def name(self, index: int) -> str: ...


@dataclass(frozen=True, eq=False)
class Samples:
    """Preprocessed images in a fixed order, which are read when they are needed."""

    origin: str
    """The images, as a report names them: `360 labelled images from digits/test`."""
    labels: NDArray[np.int64] | None
    """The class of each image [N]; None without labels."""
    made_up: bool
    unreadable: tuple[str, ...]
    """One line for each skipped file: its name, and the reason."""
    source: _Source = field(repr=False)
    folders: Mapping[str, int] | None = None
    """Class folder -> class; None if the images do not come from class folders."""
    notes: tuple[str, ...] = ()
    """Assumptions about them, one sentence each."""

    def __len__(self) -> int:
        return len(self.source)

    def batches(self, size: int, most: int | None = None) -> Iterator[NDArray[np.float32]]:
        """All images in order, or `most` of them as in `spread`, in batches [size, C, H, W]; the last may be smaller.

        Raises:
            DataError: a file was damaged after it was opened.
        """
        if size < 1:
            raise ValueError(f"batch size is {size}, expected at least 1")
        indices = self.spread(len(self) if most is None else most)
        for start in range(0, len(indices), size):
            yield self.source.read(indices[start : start + size])

    def spread(self, count: int) -> NDArray[np.intp]:
        """The places of `count` evenly spaced images, or of all if there are fewer.

        A labelled folder is sorted by class, so these images are spread over the classes.
        """
        count = min(count, len(self))
        return np.arange(count) * len(self) // max(count, 1)

    def pick(self, count: int) -> NDArray[np.float32]:
        """The images of `spread`, [n, C, H, W]."""
        if count < 1:
            raise ValueError(f"count is {count}, expected at least 1")
        return self.source.read(self.spread(count))

    def at(self, places: NDArray[np.intp]) -> NDArray[np.float32]:
        """The images at these places, [n, C, H, W]."""
        return self.source.read(places)

    def pixels(self, place: int) -> NDArray[np.uint8] | None:
        """The image at this place before preprocessing, [H, W, C]; None if it was given preprocessed."""
        return self.source.pixels(place)

    def name(self, place: int) -> str:
        """The name of the file at this place, without its folder; or `image 17` for images of an array."""
        return self.source.name(place)

    def without_each(self, step: int) -> Samples:
        """These samples without every `step`-th image, in the same order."""
        kept = np.flatnonzero(np.arange(len(self)) % step != step - 1)
        return Samples(
            origin=f"{len(kept)} of {self.origin}",
            labels=None if self.labels is None else self.labels[kept],
            made_up=self.made_up,
            unreadable=self.unreadable,
            source=_Subset(self.source, kept),
            folders=self.folders,
        )

    def digest(self) -> str:
        """sha256 of everything that decides the images, their order and their labels, without their paths.

        It reads each byte once and decodes nothing. The version of Pillow, which also affects the pixels, is not in it.
        """
        sha256 = hashlib.sha256()
        self.source.identify(sha256)
        sha256.update(b"no labels" if self.labels is None else b"labels" + self.labels.astype("<i8").tobytes())
        return sha256.hexdigest()


@dataclass(frozen=True)
class _Files:
    paths: tuple[Path, ...]
    preprocessing: Preprocessing

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, indices: NDArray[np.intp]) -> NDArray[np.float32]:
        return np.stack([prepare_file(self.paths[index], self.preprocessing) for index in indices])

    def pixels(self, index: int) -> NDArray[np.uint8]:
        return read_image(self.paths[index], self.preprocessing.channels)

    def name(self, index: int) -> str:
        return self.paths[index].name

    def identify(self, sha256: Any) -> None:
        sha256.update(f"files {len(self)} {self.preprocessing}".encode())
        for path in self.paths:
            sha256.update(file_digest(path))


@dataclass(frozen=True, eq=False)
class _Subset:
    """Some images of a source."""

    source: _Source
    places: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.places)

    def read(self, indices: NDArray[np.intp]) -> NDArray[np.float32]:
        return self.source.read(self.places[indices])

    def pixels(self, index: int) -> NDArray[np.uint8] | None:
        return self.source.pixels(int(self.places[index]))

    def name(self, index: int) -> str:
        return self.source.name(int(self.places[index]))

    def identify(self, sha256: Any) -> None:
        self.source.identify(sha256)
        sha256.update(b"places" + self.places.astype("<i8").tobytes())


def open_samples(path: Path, preprocessing: Preprocessing, labels: Sequence[str], *, need_labels: bool) -> Samples:
    """Open a folder, `.npy` or `.npz`. `labels` are the names of all classes, in the order of the logits.

    - A folder without labels may hold images at any depth. With labels it holds one subfolder for each class. The name
      of a subfolder is a label, or a number in 0..classes-1. If no name is a label, and there are as many subfolders as
      classes, they are numbered in sorted order, as in torchvision's ImageFolder.
    - An array is in `.npy`, or in `.npz` as `images` and `labels`. float32 [N, C, H, W] is already preprocessed. uint8
      [N, H, W, C], or [N, H, W] for one channel, is not.

    Raises:
        DataError: there is nothing usable at `path`, or it does not fit the model.
    """
    path = Path(path)
    if path.is_dir():
        return _open_folder(path, preprocessing, labels, need_labels)
    if not path.exists():
        raise DataError("there is no such file or folder", where=path, remedy="check the path")
    if path.suffix.lower() not in (".npy", ".npz"):
        raise DataError(
            "not a data set",
            where=path,
            expected="a folder of images, .npy or .npz",
            got=f"a file {path.suffix or 'without a suffix'}",
            remedy="give the folder that contains the images",
        )
    source, numbers = open_array(path, preprocessing, len(labels), need_labels=need_labels)
    origin = f"{counted(len(source), 'labelled image' if need_labels else 'image')} from {name_of(path)}"
    return Samples(origin, numbers, False, (), source)


def _open_folder(path: Path, preprocessing: Preprocessing, labels: Sequence[str], need_labels: bool) -> Samples:
    files, skipped, numbers = image_files(path), [], []
    classes: dict[str, int] = {}
    notes: tuple[str, ...] = ()
    if need_labels:
        folders = sorted(entry.name for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
        if not folders:
            raise DataError(
                "no class folders",
                where=path,
                expected="one subfolder for each class",
                got=f"{counted(len(files), 'image')} and no subfolder",
                remedy="sort the images into one folder for each class; calibration images need no labels",
            )
        classes, notes = _class_numbers(folders, labels, path)
        loose = {file for file in files if file.parent == path}
        skipped = [f"{file.relative_to(path)}: not in a class folder" for file in files if file in loose]
        files = [file for file in files if file not in loose]
        files.sort(key=lambda file: classes[file.relative_to(path).parts[0]])  # stable: natural order within a class
    readable = []
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        for file, problem in zip(
            files, threads.map(lambda file: _problem(file, path, preprocessing), files), strict=True
        ):
            if problem is not None:
                skipped.append(problem)
                continue
            readable.append(file)
            if need_labels:
                numbers.append(classes[file.relative_to(path).parts[0]])
    if not readable:
        what = f"none of {counted(len(skipped), 'image')} can be used"
        remedy = "replace the files, or give another folder"
        raise DataError(what, where=path, expected="at least one usable image", got=skipped[0], remedy=remedy)
    origin = f"{counted(len(readable), 'labelled image' if need_labels else 'image')} from {name_of(path)}"
    known = np.array(numbers, np.int64) if need_labels else None
    source = _Files(tuple(readable), preprocessing)
    return Samples(origin, known, False, tuple(skipped), source, classes if need_labels else None, notes)


def _problem(file: Path, folder: Path, preprocessing: Preprocessing) -> str | None:
    try:
        prepare_file(file, preprocessing)
    except DataError as error:
        error.where = str(file.relative_to(folder)) if error.where == str(file) else error.where
        return str(error)
    return None


def _class_numbers(
    folders: Sequence[str], labels: Sequence[str], where: Path
) -> tuple[dict[str, int], tuple[str, ...]]:
    """(folder name -> class, assumptions). Folders are numbered in sorted order only if no name is a label.

    A model with one output has two labels, and the one for "no" may be empty. Then any folder name may stand for it.
    """
    if len(labels) == 2 and not labels[0] and len(folders) == 2 and labels[1] in folders:
        labels = (*(name for name in folders if name != labels[1]), labels[1])
    uses, numbers = Counter(labels), {label: number for number, label in enumerate(labels)}
    known = [name for name in folders if name in numbers]
    if len(known) == len(folders):
        if twice := [name for name in folders if uses[name] > 1]:
            raise DataError(
                f"several classes share these labels: {shortened(twice, SHOWN)}",
                where=where,
                expected="one class for each folder name",
                remedy="name the folders after the class numbers",
            )
        return {name: numbers[name] for name in folders}, ()
    if all(name.isascii() and name.isdigit() and int(name) < len(labels) for name in folders):
        return {name: int(name) for name in folders}, ()
    if not known and len(folders) == len(labels):
        pairs = shortened(
            [f"{name} is {label or number}" for number, (name, label) in enumerate(zip(folders, labels, strict=True))],
            SHOWN,
        )
        folder = name_of(where)
        note = f"no class folder in {folder} has the name of a label, so they are numbered in string order: {pairs}"
        return {name: number for number, name in enumerate(folders)}, (note,)
    named, unknown = [label for label in labels if label], [name for name in folders if name not in numbers]
    raise DataError(
        "class folders that the model does not know",
        where=where,
        expected=f"folders named {shortened(named, SHOWN)}, or 0..{len(labels) - 1}",
        got=f"{len(known)} of {counted(len(folders), 'folder')} with such names, and {shortened(unknown, SHOWN)}",
        remedy="rename the folders, or name the classes with --spec labels=FILE",
    )
