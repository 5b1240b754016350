"""A bound on the memory that the reading of a file may take, on systems that can keep one."""

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
    """Let this process take at most `size_bytes` more, besides mapped files, while it works on the file `where`.

    Raises:
        InputError: that was not enough. A library in C++ may end the process instead (`isolation`).
    """
    taken_bytes = data_bytes()
    if taken_bytes is None:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    bounds = [bound for bound in (taken_bytes + size_bytes, soft, hard) if bound != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min(bounds), hard))
    try:
        yield
    except (MemoryError, MissingError) as error:
        expected = f"at most {size_bytes / 1e6:,.0f} MB for a file of its size"
        raise InputError("it needs too much memory", where=where, expected=expected, remedy=REMEDY) from error
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def data_bytes() -> int | None:
    """What this process has taken that counts for `RLIMIT_DATA`; None on systems that do not tell."""
    try:
        lines = STATUS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData:")), None)
