"""Runs a bundle on images. This needs NumPy and the target's runtime, never torch or onnx."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from paraexport import targets
from paraexport.bundle import REBUILD, Bundle, reading
from paraexport.bundle.prediction import Failure, Picture, Prediction, predict_each, preprocessed
from paraexport.errors import BundleError, DataError, EngineError, ParaexportError, on_one_line, translate_error
from paraexport.findings.graphs import TensorInfo
from paraexport.system.cpus import checked_threads


class Engine:
    """An opened bundle. Call it with images; several threads may call it at once.

    Args:
        bundle: a verified bundle.
        threads: threads inside one call. None means the runtime's default: one for each physical core.

    Raises:
        MissingError: the target's runtime, or a device that it needs, is missing.
        BundleError: the runtime cannot open the model, or the model does not match the manifest.
    """

    def __init__(self, bundle: Bundle, threads: int | None = None) -> None:
        threads = checked_threads(threads)
        self.bundle = bundle
        self.manifest = bundle.manifest
        target = targets.require(self.manifest.target)
        (_, *image) = self.manifest.inputs[0].shape
        workload = targets.Workload(
            image=tuple(map(int, image)),
            max_batch=self.manifest.max_batch,
            precision=self.manifest.precision,
            threads=threads,
        )
        try:
            self.session = target.open_session(bundle.files, workload, self.manifest.runtime)
        except ParaexportError:
            raise
        except Exception as error:  # each runtime has errors of its own
            bundle.require_unchanged()
            what = f"{target.name} cannot open the model"
            raise translate_error(error, BundleError, what, bundle.path, bundle.files.named) from error
        bundle.require_unchanged()
        if differences := [
            *differing("input", self.manifest.inputs, self.session.inputs),
            *differing("output", self.manifest.outputs, self.session.outputs),
        ]:
            raise BundleError(
                "the model does not match the manifest",
                where=bundle.path,
                got=on_one_line("; ".join(differences)),
                remedy=REBUILD,
            )

    @property
    def branches(self) -> int | None:
        """The number of branches in use; None for a module that was not recognised as a Para-Former."""
        return None if self.manifest.spec is None else self.manifest.spec.branches

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the outputs."""
        return self.manifest.labels

    def preprocess(self, pictures: Picture | Iterable[Picture]) -> NDArray[np.float32]:
        """Prepare image files or pixels as the bundle says: float32 [N, C, H, W].

        Args:
            pictures: one or several pictures. A picture is the path of an image file, uint8 pixels [H, W, C], or an
                image of Pillow. Pixels [N, H, W, C] are N pictures.

        Raises:
            DataError: a picture cannot be read, or has the wrong type, shape or size.
        """
        many = [preprocessed(picture, self.manifest) for picture in several(pictures)]
        return np.stack(many) if many else np.zeros((0, *map(int, self.manifest.inputs[0].shape[1:])), np.float32)

    def predict(self, pictures: Picture | Iterable[Picture], *, top: int = 1) -> list[Prediction]:
        """Predict labels with scores for image files or pixels, one `Prediction` for each.

        Args:
            pictures: as in `preprocess`.
            top: the number of labels in each prediction, best first.

        Raises:
            DataError: a picture cannot be read, or the model's outputs for it are not finite.
        """
        predictions = []
        for answer in predict_each(self, self.manifest, several(pictures), top):
            if isinstance(answer, Failure):
                raise answer.error
            predictions.append(answer)
        return predictions

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """Refuse to pickle or copy an engine, because its session belongs to one process."""
        branches = "" if self.bundle.first is None else f", branches={self.bundle.first}"
        call = f"paraexport.load({str(self.bundle.path)!r}{branches})"
        raise TypeError(f"an Engine cannot be pickled or copied; call {call} in the worker")

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run images float32 [N, C, H, W], and return logits float32 [N, classes].

        More than `max_batch` images run in several batches.

        Raises:
            DataError: the shape or dtype is wrong. Nothing is converted silently.
            EngineError: the runtime failed.
            MissingError: there is not enough memory, or a device has disappeared.
        """
        (_, *shape), (_, classes) = self.manifest.inputs[0].shape, self.manifest.outputs[0].shape
        if not isinstance(images, np.ndarray) or images.dtype != np.float32 or list(images.shape[1:]) != shape:
            is_array = isinstance(images, np.ndarray)
            got = f"{images.dtype} {list(images.shape)}" if is_array else type(images).__name__
            raise DataError(
                "wrong input",
                expected=f"a float32 array [N, {', '.join(map(str, shape))}]",
                got=got,
                remedy="use Engine.preprocess to make it from image files or pixels",
            )
        size = self.manifest.max_batch
        parts = [self.answer(np.ascontiguousarray(images[at : at + size])) for at in range(0, len(images), size)]
        return np.concatenate(parts) if parts else np.zeros((0, int(classes)), np.float32)

    def answer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            return self.session(batch)
        except ParaexportError:
            raise
        except Exception as error:  # each runtime has errors of its own
            what = f"{self.manifest.target} failed on a batch of {len(batch)}"
            raise translate_error(error, EngineError, what, self.bundle.path, self.bundle.files.named) from error


def several(pictures: Picture | Iterable[Picture]) -> Sequence[Picture]:
    """Turn one or several pictures, or a batch of pixels [N, H, W, C], into a sequence of pictures."""
    if isinstance(pictures, np.ndarray):
        return [*pictures] if pictures.ndim == 4 else [pictures]
    if isinstance(pictures, str | os.PathLike) or not isinstance(pictures, Iterable):
        return [pictures]
    return [*pictures]


def differing(side: str, expected: Iterable[TensorInfo], got: Iterable[TensorInfo]) -> Iterator[str]:
    """List differences between the model's inputs or outputs and those in the manifest, each as one clause."""
    expected, got = tuple(expected), tuple(got)
    if len(expected) != len(got):
        yield f"{len(got)} {side}s, the manifest lists {len(expected)}"
        return
    for wanted, actual in zip(expected, got, strict=True):
        if tensor_text(wanted) != tensor_text(actual):
            yield f"{side} {tensor_text(actual)}, the manifest says {tensor_text(wanted)}"


def tensor_text(tensor: TensorInfo) -> str:
    """Write `images float32 [?, 3, 32, 32]`. Free axes are `?`, because their names depend on the runtime."""
    sizes = ", ".join(str(size) if isinstance(size, int) else "?" for size in tensor.shape)
    return f"{tensor.name} {tensor.dtype} [{sizes}]"


def load(path: str | os.PathLike[str], *, threads: int | None = None, branches: int | None = None) -> Engine:
    """Verify the sha256 of every file of the bundle at `path`, and open it. Exactly these files run.

    While another process replaces the bundle, this opens the old one or the new one.

    Args:
        threads: as in `Engine`.
        branches: use only the first branches, this many. The bundle must have been built with `branches_at_load`.

    Raises:
        BundleError: the bundle is incomplete or was changed.
        InputError: the bundle holds no model with so many branches.
        MissingError: the target's runtime is not installed here.
    """
    return reading(Path(path), lambda bundle: Engine(bundle.with_branches(branches), threads))
