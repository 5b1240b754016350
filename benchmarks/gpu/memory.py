"""How much memory of the GPU is in use, as the driver tells; it is that of all processes."""

from __future__ import annotations

import ctypes
import gc

from paraexport.errors import MissingError
from paraexport.targets.trt.device import Driver, retain_primary


def in_use_bytes() -> int | None:
    """What is in use now, once this process has no garbage left; None where there is no GPU.

    The CUDA context of this process is made by the first call, so that the next ones differ by what was allocated
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


def since(before: int | None) -> int | None:
    """Bytes beyond `before`."""
    now = in_use_bytes()
    return None if now is None or before is None else now - before
