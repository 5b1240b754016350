"""Finds the NVIDIA GPU of this machine through the driver's own library, without a CUDA toolkit.

CUDA driver API: https://docs.nvidia.com/cuda/cuda-driver-api
"""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass

from paraexport.errors import MissingError

LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
OUT_OF_MEMORY, NO_DEVICE = 2, 100
OF_THE_DRIVER = frozenset({34, 209, 222, 803, 804})
"""Errors of the driver itself: it is a stub, does not match its kernel module, or is too old."""
UPDATE = "update the driver"
RESTART = "start the program again; if the error returns, look at nvidia-smi and at the system's log"
MAJOR, MINOR = 75, 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR."""


@dataclass(frozen=True)
class Device:
    """The first GPU that this process may use (`CUDA_VISIBLE_DEVICES`)."""

    name: str
    compute_capability: str
    """`8.9`."""
    driver: str
    """The newest CUDA version that the driver supports, `13.0`."""

    def __str__(self) -> str:
        return f"{self.name}, compute capability {self.compute_capability}, driver for CUDA {self.driver}"


def find_device() -> Device | str:
    """The GPU, or why there is none, as one clause."""
    try:
        return Driver().describe()
    except MissingError as error:
        return error.what


class Driver:
    """The initialised library of the driver. A call that fails raises a `MissingError`.

    Raises:
        MissingError: there is no driver, or no GPU that it can use.
    """

    def __init__(self) -> None:
        try:
            self.library = ctypes.CDLL(LIBRARY)
        except OSError:
            remedy = "install one, or use a machine with an NVIDIA GPU"
            raise MissingError("there is no NVIDIA driver here", remedy=remedy) from None
        self.call("cuInit", 0)
        count = ctypes.c_int()
        self.call("cuDeviceGetCount", ctypes.byref(count))
        if not count.value:
            raise MissingError("the NVIDIA driver finds no GPU", remedy="check CUDA_VISIBLE_DEVICES")

    def call(self, name: str, *arguments: object) -> None:
        function = getattr(self.library, name, None)
        if function is None:
            raise MissingError("the NVIDIA driver is too old", where=name, got="it has no such function", remedy=UPDATE)
        code = function(*arguments)
        if code == NO_DEVICE:
            raise MissingError("the NVIDIA driver finds no GPU", remedy="check CUDA_VISIBLE_DEVICES")
        if code == OUT_OF_MEMORY:
            remedy = "free some, or build with a lower --max-batch"
            raise MissingError("the GPU has no memory left", where=name, remedy=remedy)
        if code:
            remedy = UPDATE if code in OF_THE_DRIVER else RESTART
            raise MissingError(f"the NVIDIA driver fails with {self.error(code)}", where=name, remedy=remedy)

    def error(self, code: int) -> str:
        """`CUDA_ERROR_ILLEGAL_ADDRESS (700)`, or only the number if the driver does not know it."""
        name = ctypes.c_char_p()
        self.library.cuGetErrorName(code, ctypes.byref(name))
        return f"{name.value.decode()} ({code})" if name.value else f"error {code}"

    def describe(self) -> Device:
        device, version, numbers = ctypes.c_int(), ctypes.c_int(), []
        name = ctypes.create_string_buffer(256)
        self.call("cuDeviceGet", ctypes.byref(device), 0)
        self.call("cuDeviceGetName", name, len(name), device)
        self.call("cuDriverGetVersion", ctypes.byref(version))
        for attribute in (MAJOR, MINOR):
            number = ctypes.c_int()
            self.call("cuDeviceGetAttribute", ctypes.byref(number), attribute, device)
            numbers.append(number.value)
        driver = f"{version.value // 1000}.{version.value % 1000 // 10}"
        return Device(name.value.decode(errors="replace"), "{}.{}".format(*numbers), driver)


def retain_primary(driver: Driver) -> ctypes.c_void_p:
    """Make the primary context current in this thread. The CUDA runtime inside TensorRT uses it too."""
    device, context = ctypes.c_int(), ctypes.c_void_p()
    driver.call("cuDeviceGet", ctypes.byref(device), 0)
    driver.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
    driver.call("cuCtxSetCurrent", context)
    return context
