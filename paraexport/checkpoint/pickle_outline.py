"""What reading a pickle would do, found out without doing it: which storages it names, and how much it unfolds to.

`torch.load(weights_only=True)` runs no code, but a few bytes of a pickle can make it fill the memory. Here every class
and function of the pickle is replaced by one that only looks at its arguments.
"""

from __future__ import annotations

import pickle
from typing import IO, Any

from paraexport.checkpoint.bounds import Unfolded

REBUILDS = frozenset(
    f"torch._utils.{name}"
    for name in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_qtensor")
)
"""Called with (storage, offset, size, …)."""
ENCODINGS = frozenset({"latin1", "latin-1", "ascii", "utf-8", "utf8"})
"""Some others make text longer each time that they are applied."""


class Refused(ValueError):
    """A call that no checkpoint needs, and that could take any amount of memory."""


class Inert:
    """Stands for everything that a pickle imports; calling it checks the arguments, and makes another of its kind."""

    name = ""
    outline: Outline
    arguments: tuple[Any, ...]

    def __new__(cls, *arguments: Any, **_keywords: Any) -> Inert:
        made = object.__new__(cls)
        made.arguments = arguments
        cls.outline.check_call(cls.name, arguments)
        return made

    def __setstate__(self, state: Any) -> None:
        if self.name.endswith("Tensor") and isinstance(state, tuple):
            self.outline.count_tensor(state)

    def __setitem__(self, key: Any, value: Any) -> None:
        """Nothing is kept."""

    def append(self, item: Any) -> None:
        """Nothing is kept."""

    def extend(self, items: Any) -> None:
        """Nothing is kept."""

    def add(self, item: Any) -> None:
        """Nothing is kept."""


class Outline(pickle._Unpickler):
    """Walks through a pickle in pure Python, whose memo is as large as what is in it, unlike that of the C version."""

    def __init__(self, file: IO[bytes], unfolded: Unfolded) -> None:
        super().__init__(file, encoding="utf-8", errors="surrogateescape")
        self.unfolded = unfolded
        self.storages: dict[object, int] = {}
        """Key of a storage -> how many numbers it holds."""
        self.tensors: set[object] = set()
        """Those that were counted; what is tied is there once."""
        self.classes: dict[str, type[Inert]] = {}

    def find_class(self, module: str, name: str) -> type[Inert]:
        full = f"{module}.{name}"
        if full not in self.classes:
            self.classes[full] = type("Inert", (Inert,), {"name": full, "outline": self})
        return self.classes[full]

    def persistent_load(self, saved: Any) -> Any:
        if not isinstance(saved, tuple) or len(saved) < 5 or not isinstance(saved[4], int):
            return self.find_class("", "persistent")  # torch says what it is
        key, count = saved[2], saved[4]
        self.storages[key] = max(count, self.storages.get(key, 0))
        return "storage", key

    def count_tensor(self, arguments: tuple[Any, ...]) -> None:
        """Count a tensor that is rebuilt from (storage, offset, size, stride, …)."""
        size = sizes(arguments[2])
        if (view := repr((arguments[:2], size, arguments[3:4]))) not in self.tensors:
            self.tensors.add(view)
            self.unfolded.add_tensor(size)

    def check_call(self, name: str, arguments: tuple[Any, ...]) -> None:
        """Count what a call would make, or refuse it."""
        last = name.rpartition(".")[2]
        if name in REBUILDS:
            self.count_tensor(arguments)
        elif last == "_rebuild_from_type_v2":
            arguments[0](*arguments[2])
        elif last == "bytearray" and any(not isinstance(given, str | bytes | Inert) for given in arguments):
            raise Refused("a call of bytearray with a size")
        elif last in ("bytearray", "encode") and any(
            isinstance(given, str) and given.lower() not in ENCODINGS for given in arguments[1:]
        ):
            raise Refused(f"a call of {last} with another encoding")
        elif name.startswith("torch.") and last.endswith(("Tensor", "Storage")) and arguments:
            raise Refused(f"a call of {last}, which makes numbers that are not in the file")
        elif last == "ndarray" and arguments:
            raise Refused("a call of ndarray, which makes numbers that are not in the file")
        elif last == "_reconstruct" and tuple(arguments[1:2]) != ((0,),):
            raise Refused("a call of NumPy's _reconstruct with a size")
        elif last == "scalar" and len(arguments) < 2:
            raise Refused("a NumPy scalar without a value")
        elif last == "dtype" and any(isinstance(given, str) and len(given) > 64 for given in arguments):
            raise Refused("a NumPy dtype with a long name")


def sizes(value: Any) -> list[int]:
    """Of a tensor, as a pickle holds them: a tuple of numbers, or a `torch.Size` made of one."""
    if isinstance(value, Inert):
        value = value.arguments[0] if value.arguments else ()
    if not isinstance(value, tuple | list) or not all(isinstance(size, int) for size in value):
        raise Refused("a tensor whose size is no tuple of whole numbers")
    return list(value)
