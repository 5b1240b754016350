"""Records the work on a stream once as a CUDA graph, and then launches it with one call.

CUDA driver API, "Stream Management" and "Graph Management": https://docs.nvidia.com/cuda/cuda-driver-api
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

from paraexport.targets.trt.device import Driver

THREAD_LOCAL = 1
"""CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: other threads may still make calls that cannot be recorded,
such as allocations."""


class CudaGraph:
    """The work that `enqueue` puts onto the stream. Recording does not run it.

    Raises:
        MissingError: the driver refuses to record it. The stream remains usable.
    """

    def __init__(self, driver: Driver, stream: ctypes.c_void_p, enqueue: Callable[[], None]) -> None:
        self.driver, self.stream, self.executable = driver, stream, ctypes.c_void_p()
        graph = ctypes.c_void_p()
        driver.call("cuStreamBeginCapture_v2", stream, THREAD_LOCAL)
        try:
            enqueue()
        except BaseException:
            # The stream must stop recording. Ignore errors here: the first error is the one to report.
            driver.library.cuStreamEndCapture(stream, ctypes.byref(graph))
            if graph:
                driver.library.cuGraphDestroy(graph)
            raise
        driver.call("cuStreamEndCapture", stream, ctypes.byref(graph))
        try:
            driver.call("cuGraphInstantiateWithFlags", ctypes.byref(self.executable), graph, ctypes.c_ulonglong(0))
        finally:
            driver.library.cuGraphDestroy(graph)

    def launch(self) -> None:
        """Put all recorded work onto the stream."""
        self.driver.call("cuGraphLaunch", self.executable, self.stream)

    def __del__(self) -> None:
        if self.executable:
            self.driver.library.cuGraphExecDestroy(self.executable)
