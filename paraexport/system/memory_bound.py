"""Limits the memory for reading a file, on systems that support such a limit."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from paraexport.errors import InputError, MissingError

if sys.platform != "win32":
    import resource

STATUS = Path("/proc/self/status")
REMEDY = "export it again, or copy it again"


@contextlib.contextmanager
def memory_bound(size_bytes: int, where: Path) -> Iterator[None]:
    """Let this process allocate at most `size_bytes` more while it works on the file `where`. Mapped files are free.

    Raises:
        InputError: this was not enough. A library in C++ may end the process instead (see `isolation`).
    """
    allocated_bytes = data_bytes()
    if allocated_bytes is None:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    bounds = [bound for bound in (allocated_bytes + size_bytes, soft, hard) if bound != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min(bounds), hard))
    try:
        yield
    except (MemoryError, MissingError) as error:
        expected = f"at most {size_bytes / 1e6:,.0f} MB for a file of its size"
        raise InputError("reading it takes too much memory", where=where, expected=expected, remedy=REMEDY) from error
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def data_bytes() -> int | None:
    """The memory of this process that counts for `RLIMIT_DATA`; None on systems that do not report it."""
    try:
        lines = STATUS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData:")), None)
