"""The NVIDIA GPU of this machine, through the driver's own library: no CUDA toolkit is needed to ask.

CUDA driver API: https://docs.nvidia.com/cuda/cuda-driver-api
"""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass

from paraexport.errors import MissingError

LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
OUT_OF_MEMORY, NO_DEVICE = 2, 100
UPDATE = "update the driver"
MAJOR, MINOR = 75, 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR."""


@dataclass(frozen=True)
class Device:
    """The first GPU that this process may use (`CUDA_VISIBLE_DEVICES`)."""

    name: str
    compute_capability: str
    """`8.9`."""
    driver: str
    """The newest CUDA that the driver knows, `13.0`."""

    def __str__(self) -> str:
        return f"{self.name}, compute capability {self.compute_capability}, driver for CUDA {self.driver}"


def find_device() -> Device | str:
    """The GPU, or one clause on why there is none."""
    try:
        return Driver().describe()
    except MissingError as error:
        return error.what


class Driver:
    """The driver's library, initialised; every call that fails raises.

    Raises:
        MissingError: there is no driver, or no GPU that it can use.
    """

    def __init__(self) -> None:
        try:
            self.library = ctypes.CDLL(LIBRARY)
        except OSError:
            raise MissingError("there is no NVIDIA driver here", remedy="install one, or run where a GPU is") from None
        self.call("cuInit", 0)
        count = ctypes.c_int()
        self.call("cuDeviceGetCount", ctypes.byref(count))
        if not count.value:
            raise MissingError("the NVIDIA driver finds no GPU", remedy="is CUDA_VISIBLE_DEVICES empty?")

    def call(self, name: str, *arguments: object) -> None:
        function = getattr(self.library, name, None)
        if function is None:
            raise MissingError("the NVIDIA driver is too old", where=name, got="it has no such function", remedy=UPDATE)
        code = function(*arguments)
        if code == NO_DEVICE:
            raise MissingError("the NVIDIA driver finds no GPU", remedy="is CUDA_VISIBLE_DEVICES empty?")
        if code == OUT_OF_MEMORY:
            raise MissingError("the GPU has no memory left", where=name, remedy="free some, or build --max-batch lower")
        if code:
            raise MissingError(f"the NVIDIA driver fails with error {self.error(code)}", where=name, remedy=UPDATE)

    def error(self, code: int) -> str:
        """`700, CUDA_ERROR_ILLEGAL_ADDRESS`; the number alone where the driver does not know it."""
        name = ctypes.c_char_p()
        self.library.cuGetErrorName(code, ctypes.byref(name))
        return f"{code}, {name.value.decode()}" if name.value else str(code)

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
    """The context that the CUDA runtime inside TensorRT uses as well, from now on this thread's current one."""
    device, context = ctypes.c_int(), ctypes.c_void_p()
    driver.call("cuDeviceGet", ctypes.byref(device), 0)
    driver.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
    driver.call("cuCtxSetCurrent", context)
    return context
