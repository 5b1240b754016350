"""Walks through a pickle without running it: finds its storages, and how much memory it would take.

`torch.load(weights_only=True)` runs no code, but a few bytes of a pickle can make it fill the memory. Here every class
and function of the pickle is replaced by one that only checks its arguments.
"""

from __future__ import annotations

import pickle
from typing import IO, Any

from paraexport.checkpoint.bounds import UnpackedSize

REBUILDS = frozenset(
    f"torch._utils.{name}"
    for name in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_qtensor")
)
"""Functions that are called with (storage, offset, size, …)."""
ENCODINGS = frozenset({"latin1", "latin-1", "ascii", "utf-8", "utf8"})
"""Encodings that do not make a text longer each time they are applied, as some others do."""


class ForbiddenCall(ValueError):
    """A call that no checkpoint needs, and that could take any amount of memory."""


class Inert:
    """Replaces everything that a pickle imports. A call checks the arguments, and returns another inert object."""

    name = ""
    outline: Outline
    arguments: tuple[Any, ...]

    def __new__(cls, *arguments: Any, **_keywords: Any) -> Inert:
        instance = object.__new__(cls)
        instance.arguments = arguments
        cls.outline.check_call(cls.name, arguments)
        return instance

    def __setstate__(self, state: Any) -> None:
        if self.name.endswith("Tensor") and isinstance(state, tuple):
            self.outline.count_tensor(state)

    def __setitem__(self, key: Any, value: Any) -> None:
        """Drop the value."""

    def append(self, item: Any) -> None:
        """Drop the value."""

    def extend(self, items: Any) -> None:
        """Drop the value."""

    def add(self, item: Any) -> None:
        """Drop the value."""


class Outline(pickle._Unpickler):
    """Walks through a pickle in pure Python.

    A pickle can make the C version allocate a huge memo. The memo in Python only grows with its entries.
    """

    def __init__(self, file: IO[bytes], unpacked: UnpackedSize) -> None:
        super().__init__(file, encoding="utf-8", errors="surrogateescape")
        self.unpacked = unpacked
        self.storages: dict[object, int] = {}
        """Key of a storage -> its number of elements."""
        self.tensors: set[object] = set()
        """The tensors that were counted. Tied tensors count once."""
        self.classes: dict[str, type[Inert]] = {}

    def find_class(self, module: str, name: str) -> type[Inert]:
        full = f"{module}.{name}"
        if full not in self.classes:
            self.classes[full] = type("Inert", (Inert,), {"name": full, "outline": self})
        return self.classes[full]

    def persistent_load(self, saved: Any) -> Any:
        if not isinstance(saved, tuple) or len(saved) < 5 or not isinstance(saved[4], int):
            return self.find_class("", "persistent")  # torch itself refuses it later, with a better message
        key, count = saved[2], saved[4]
        self.storages[key] = max(count, self.storages.get(key, 0))
        return "storage", key

    def count_tensor(self, arguments: tuple[Any, ...]) -> None:
        """Count a tensor that is rebuilt from (storage, offset, size, stride, …)."""
        size = sizes(arguments[2])
        if (view := repr((arguments[:2], size, arguments[3:4]))) not in self.tensors:
            self.tensors.add(view)
            self.unpacked.add_tensor(size)

    def check_call(self, name: str, arguments: tuple[Any, ...]) -> None:
        """Count the memory that a call would take, or refuse the call."""
        last = name.rpartition(".")[2]
        if name in REBUILDS:
            self.count_tensor(arguments)
        elif last == "_rebuild_from_type_v2":
            arguments[0](*arguments[2])
        elif last == "bytearray" and any(not isinstance(argument, str | bytes | Inert) for argument in arguments):
            raise ForbiddenCall("it calls bytearray with a size")
        elif last in ("bytearray", "encode") and any(
            isinstance(argument, str) and argument.lower() not in ENCODINGS for argument in arguments[1:]
        ):
            raise ForbiddenCall(f"it calls {last} with an unusual encoding")
        elif name.startswith("torch.") and last.endswith(("Tensor", "Storage")) and arguments:
            raise ForbiddenCall(f"it calls {last}, which makes numbers that are not in the file")
        elif last == "ndarray" and arguments:
            raise ForbiddenCall("it calls ndarray, which makes numbers that are not in the file")
        elif last == "_reconstruct" and tuple(arguments[1:2]) != ((0,),):
            raise ForbiddenCall("it calls NumPy's _reconstruct with a size")
        elif last == "scalar" and len(arguments) < 2:
            raise ForbiddenCall("it has a NumPy scalar without a value")
        elif last == "dtype" and any(isinstance(argument, str) and len(argument) > 64 for argument in arguments):
            raise ForbiddenCall("it has a NumPy dtype with a long name")


def sizes(value: Any) -> list[int]:
    """The sizes of a tensor from a pickle: a tuple of numbers, or a `torch.Size` made of one."""
    if isinstance(value, Inert):
        value = value.arguments[0] if value.arguments else ()
    if not isinstance(value, tuple | list) or not all(isinstance(size, int) for size in value):
        raise ForbiddenCall("it has a tensor whose size is no tuple of whole numbers")
    return list(value)
