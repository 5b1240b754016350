"""The C interface through ctypes, in a form that tests can compare with Python's `Engine`."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_char_p, c_double, c_int, c_size_t, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

OK, CHECK_FAILED, BAD_INPUT, MISSING, INTERNAL = range(5)
RGB, BGR = 0, 1


class Options(ctypes.Structure):
    _fields_ = (
        ("size", c_size_t),
        ("threads", c_int),
        ("target", c_char_p),
        ("runtime", c_char_p),
        ("branches", c_int),
    )


class File(ctypes.Structure):
    _fields_ = (("size", c_size_t), ("name", c_char_p), ("data", c_char_p), ("size_bytes", c_size_t))


FIND = ctypes.CFUNCTYPE(c_int, c_void_p, c_char_p, POINTER(c_size_t))
READ = ctypes.CFUNCTYPE(c_int, c_void_p, c_char_p, c_size_t, c_void_p, c_size_t)


class Reader(ctypes.Structure):
    _fields_ = (("size", c_size_t), ("context", c_void_p), ("find", FIND), ("read", READ))


SIZES = ("channels", "height", "width", "classes", "max_batch")
TEXTS = ("target", "precision", "layout", "runtime_version", "runtime_path")


class Info(ctypes.Structure):
    _fields_ = (
        ("size", c_size_t),
        *((name, c_size_t) for name in SIZES),
        *((name, c_char_p) for name in TEXTS),
        ("branches", c_size_t),
    )


class Pixels(ctypes.Structure):
    _fields_ = (
        ("size", c_size_t), ("data", c_void_p), ("height", c_size_t), ("width", c_size_t), ("channels", c_size_t),
        ("stride", c_size_t), ("order", c_int),
    )  # fmt: skip


class Answer(ctypes.Structure):
    _fields_ = (
        ("size", c_size_t), ("index", c_int), ("label", c_char_p), ("score", c_double), ("probability", c_double),
    )  # fmt: skip


class FailedError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Scored:
    index: int
    label: str
    score: float
    probability: float


class Library:
    def __init__(self, file: Path) -> None:
        self.c: Any = ctypes.CDLL(str(file))
        self.c.paraexport_last_error.restype = c_char_p
        self.c.paraexport_version.restype = c_char_p
        self.c.paraexport_label.restype = c_char_p
        self.c.paraexport_label.argtypes = (c_void_p, c_size_t)
        self.c.paraexport_close.argtypes = (c_void_p,)
        self.c.paraexport_run.argtypes = (c_void_p, c_void_p, c_size_t, c_void_p)
        self.c.paraexport_prepare.argtypes = (c_void_p, POINTER(Pixels), c_void_p)
        self.c.paraexport_classify.argtypes = (
            c_void_p, POINTER(Pixels), POINTER(Answer), c_size_t, POINTER(c_size_t)
        )  # fmt: skip
        self.c.paraexport_answers.argtypes = (c_void_p, c_void_p, POINTER(Answer), c_size_t, POINTER(c_size_t))
        self.c.paraexport_check.argtypes = (c_void_p, POINTER(c_double))
        self.c.paraexport_get_info.argtypes = (c_void_p, POINTER(Info))

    def require(self, status: int) -> None:
        if status:
            raise FailedError(status, self.last_error())

    def last_error(self) -> str:
        return str(self.c.paraexport_last_error().decode())

    def open(
        self,
        path: Path | str,
        threads: int = 0,
        target: str | None = None,
        runtime: str | None = None,
        branches: int = 0,
    ) -> CEngine:
        options = Options(
            ctypes.sizeof(Options), threads, target and target.encode(), runtime and runtime.encode(), branches
        )  # fmt: skip
        handle = c_void_p()
        self.require(self.c.paraexport_open(str(path).encode(), ctypes.byref(options), ctypes.byref(handle)))
        return CEngine(self, handle)

    def open_memory(self, files: dict[str, bytes], branches: int = 0) -> CEngine:
        array = (File * len(files))(
            *(File(ctypes.sizeof(File), name.encode(), data, len(data)) for name, data in files.items())
        )
        handle, options = c_void_p(), Options(ctypes.sizeof(Options), branches=branches)
        count = c_size_t(len(files))
        self.require(self.c.paraexport_open_memory(array, count, ctypes.byref(options), ctypes.byref(handle)))
        return CEngine(self, handle)

    def open_reader(self, files: dict[str, bytes], branches: int = 0) -> CEngine:
        def find(context: object, name: bytes, size: Any) -> int:
            if name.decode() not in files:
                return 1
            size[0] = len(files[name.decode()])
            return 0

        def read(context: object, name: bytes, offset: int, buffer: int, size: int) -> int:
            ctypes.memmove(buffer, files[name.decode()][offset : offset + size], size)
            return 0

        reader = Reader(ctypes.sizeof(Reader), None, FIND(find), READ(read))
        handle, options = c_void_p(), Options(ctypes.sizeof(Options), branches=branches)
        self.require(self.c.paraexport_open_reader(ctypes.byref(reader), ctypes.byref(options), ctypes.byref(handle)))
        return CEngine(self, handle)

    def verify(self, path: Path) -> None:
        self.require(self.c.paraexport_verify(str(path).encode()))


class CEngine:
    """An engine of the C library; call it with images."""

    def __init__(self, library: Library, handle: c_void_p) -> None:
        self.library, self.handle = library, handle

    def info(self) -> dict[str, Any]:
        info = Info(ctypes.sizeof(Info))
        self.library.require(self.library.c.paraexport_get_info(self.handle, ctypes.byref(info)))
        texts = {name: getattr(info, name).decode() for name in TEXTS}
        return {name: getattr(info, name) for name in (*SIZES, "branches")} | texts

    def labels(self) -> tuple[str, ...]:
        count = self.info()["classes"]
        return tuple(self.library.c.paraexport_label(self.handle, index).decode() for index in range(count))

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        logits = np.full((len(images), self.info()["classes"]), np.nan, np.float32)
        images = np.ascontiguousarray(images)
        status = self.library.c.paraexport_run(self.handle, images.ctypes.data, len(images), logits.ctypes.data)
        self.library.require(status)
        return logits

    def prepare(self, pixels: NDArray[np.uint8], order: int = RGB) -> NDArray[np.float32]:
        info = self.info()
        image = np.full((info["channels"], info["height"], info["width"]), np.nan, np.float32)
        view = pixels_of(pixels, order)
        self.library.require(self.library.c.paraexport_prepare(self.handle, ctypes.byref(view), image.ctypes.data))
        return image

    def classify(self, pixels: NDArray[np.uint8], most: int = 1, order: int = RGB) -> list[Scored]:
        view = pixels_of(pixels, order)
        return self.scored(most, self.library.c.paraexport_classify, ctypes.byref(view))

    def answers(self, logits: NDArray[np.float32], most: int = 1) -> list[Scored]:
        return self.scored(most, self.library.c.paraexport_answers, logits.ctypes.data)

    def scored(self, most: int, function: Any, argument: Any) -> list[Scored]:
        answers, found = (Answer * most)(), c_size_t()
        answers[0].size = ctypes.sizeof(Answer)
        self.library.require(function(self.handle, argument, answers, most, ctypes.byref(found)))
        return [
            Scored(answer.index, answer.label.decode(), answer.score, answer.probability)
            for answer in answers[: found.value]
        ]

    def check(self) -> float:
        difference = c_double()
        self.library.require(self.library.c.paraexport_check(self.handle, ctypes.byref(difference)))
        return difference.value

    def close(self) -> None:
        self.library.require(self.library.c.paraexport_close(self.handle))

    def __enter__(self) -> CEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def pixels_of(pixels: NDArray[np.uint8], order: int = RGB) -> Pixels:
    """[H, W, C], with any distance between rows. The array must live as long as the result."""
    height, width, channels = pixels.shape
    assert pixels[0].flags.c_contiguous
    return Pixels(ctypes.sizeof(Pixels), pixels.ctypes.data, height, width, channels, pixels.strides[0], order)
