"""One folder in the place of another, in one step where the system can.

Linux swaps two names in one step (renameat2 with RENAME_EXCHANGE). Where that is not to be had, two renames are needed:
the old folder goes to `old` in the workspace first, where `claim.moved_aside` and `claim.recover` find it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path

from paraexport.errors import OutputError
from paraexport.system.claim import OLD

AT_FDCWD, RENAME_EXCHANGE = -100, 2
"""As in Linux's <fcntl.h> and <linux/fs.h>."""
NOT_SUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM)


def replace(folder: Path, output: Path, work: Path, check: Callable[[Path], None]) -> None:
    """Put `folder` at `output`; an old bundle there goes into `work`, and comes back when something fails.

    Args:
        check: called with the place that the old bundle has come to; it raises if that must not be removed.
    """
    if not output.exists():
        folder.rename(output)
    elif exchange(folder, output):
        try:
            check(folder)
        except OutputError as error:
            exchange(folder, output)
            raise OutputError(error.what, where=output, remedy=error.remedy) from None
    else:
        replace_in_two(folder, output, work / OLD)


def replace_in_two(folder: Path, output: Path, aside: Path) -> None:
    try:
        output.rename(aside)
        folder.rename(output)
    except BaseException:
        if aside.exists() and not output.exists():
            aside.rename(output)
        raise


def exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step; False where this system or file system cannot.

    Raises:
        OSError: it can, and failed.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):  # an old C library
        return False
    if renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0:
        return True
    if (number := ctypes.get_errno()) in NOT_SUPPORTED:
        return False
    raise OSError(number, os.strerror(number), str(other))
