"""Functions for `paraexport.system.isolation` to call that do what libraries do on odd files."""

from __future__ import annotations

import logging
import os
import time
import warnings
from pathlib import Path

from paraexport.errors import CheckFailed, OutputError
from paraexport.findings.checks import Check
from paraexport.timing.clock import Progress

CHECK = Check("self-check", 0.5, 1e-5, "unit", 3, False, "because")


def answer(*arguments: object, progress: Progress) -> list[object]:
    print("a library greets")
    progress("reading")
    return [*arguments]


def die(number: int, *, progress: Progress) -> None:
    progress("checking")
    os.kill(os.getpid(), number)
    time.sleep(30)


def run_out_of_memory(*, progress: Progress) -> None:
    os.write(2, b"terminate called after throwing an instance of 'std::bad_alloc'\n")
    os.abort()


def fail(kind: str, *, progress: Progress) -> None:
    if kind == "check":
        error = CheckFailed("it differs", where="a.onnx", expected=1, got=2, remedy="report it")
        error.checks = (CHECK,)
        raise error
    if kind == "output":
        raise OutputError("no")
    if kind == "memory":
        raise MemoryError
    if kind == "system":
        Path("/nowhere/at/all").read_bytes()
    if kind == "import":
        import no_such_library  # type: ignore[import-not-found]  # noqa: F401
    raise KeyError(kind)


def warn(*, progress: Progress) -> int:
    os.write(2, b"noise of a library in C\n")
    for _ in range(3):
        warnings.warn("first\n  line", stacklevel=1)
        logging.getLogger("a.library").warning("second %s", "line")
        logging.getLogger("a.library").info("not this")
    return 1


def wait(note: str, *, progress: Progress) -> None:
    progress("reading")
    Path(note).write_text(str(os.getpid()))
    time.sleep(60)
