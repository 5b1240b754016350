"""Replaces one folder by another, in one step if the system supports it.

Linux swaps two names in one step (renameat2 with RENAME_EXCHANGE). Other systems need two renames: first the old folder
moves to `old` in the workspace. `claim.moved_aside` and `claim.recover` find it there.
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
    """Move `folder` to `output`. An old bundle there moves into `work`, and comes back if something fails.

    Args:
        check: called with the new place of the old bundle; raises if this bundle must not be removed.
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


def exchange(first: Path, second: Path) -> bool:
    """Swap two names in one step. Return False if this system or file system cannot.

    Raises:
        OSError: the system supports it, but it failed.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):  # an old C library
        return False
    if renameat2(AT_FDCWD, os.fsencode(first), AT_FDCWD, os.fsencode(second), RENAME_EXCHANGE) == 0:
        return True
    if (number := ctypes.get_errno()) in NOT_SUPPORTED:
        return False
    raise OSError(number, os.strerror(number), str(second))
