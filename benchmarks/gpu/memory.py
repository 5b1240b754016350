"""Memory of the GPU in use by all processes, as the driver reports it."""

from __future__ import annotations

import ctypes
import gc

from paraexport.errors import MissingError
from paraexport.targets.trt.device import Driver, retain_primary


def in_use_bytes() -> int | None:
    """Collect the garbage of this process, then return the memory in use; None without a GPU.

    The first call creates the CUDA context of this process. So two later calls differ only by what was allocated
    between them.
    """
    gc.collect()
    try:
        driver = Driver()
        retain_primary(driver)
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        driver.call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
    except MissingError:
        return None
    return total.value - free.value


def increase_bytes(before: int | None) -> int | None:
    """Memory in use now minus `before`, an earlier value of `in_use_bytes`."""
    now = in_use_bytes()
    return None if now is None or before is None else now - before
