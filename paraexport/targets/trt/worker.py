"""What one thread of a session has: a stream, memory, and execution contexts that take turns on that stream.

Written to NVIDIA's documents, and not run, since there was no GPU to run it on (docs/tensorrt.md): of TensorRT "Working
with Dynamic Shapes" and "CUDA Graphs"; of TensorRT-RTX "Working with RTX CUDA Graphs" and "Working with Runtime Cache".
A CUDA graph holds the batch and every address, so each has a context of its own; since contexts take turns, they share
the memory that they need beside.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paraexport.errors import EngineError, MissingError
from paraexport.targets.profiles import nearest
from paraexport.targets.trt.cuda_graph import CudaGraph
from paraexport.targets.trt.loaded import LoadedEngine

FLOAT32_BYTES = 4
NON_BLOCKING = 1
"""CU_STREAM_NON_BLOCKING: the stream does not wait for the default one."""
MOST_GRAPHS = 8
"""Batches that are recorded for one thread, the first that come; each costs a context. Others run kernel by kernel."""
Step = Callable[[], None]
"""Puts one run onto the stream: images to the GPU, the network, logits back."""


class Worker:
    """Runs batches for one thread.

    Nothing that it keeps refers back to it: it goes when its thread or its session does, not when garbage is collected,
    which may be in the middle of a recording, where no memory can be freed.
    """

    def __init__(self, loaded: LoadedEngine) -> None:
        self.loaded, self.driver = loaded, loaded.driver
        self.stream = ctypes.c_void_p()
        self.on_gpu: list[ctypes.c_void_p] = []
        self.on_host: list[ctypes.c_void_p] = []
        self.recorded: dict[int, Step] = {}
        self.contexts: dict[int, Any] = {}
        self.driver.call("cuStreamCreate", ctypes.byref(self.stream), NON_BLOCKING)
        most = max(one.max for one in loaded.told.profiles)
        sizes = [most * math.prod(shape) * FLOAT32_BYTES for shape in loaded.shapes]
        self.scratch_bytes = max(1, loaded.engine.device_memory_size_v2)
        for size in (*sizes, self.scratch_bytes):
            self.on_gpu.append(self.allocate("cuMemAlloc_v2", size))
        for size in sizes:
            self.on_host.append(self.allocate("cuMemAllocHost_v2", size))

    def allocate(self, function: str, size_bytes: int) -> ctypes.c_void_p:
        address = ctypes.c_void_p()
        self.driver.call(function, ctypes.byref(address), ctypes.c_size_t(size_bytes))
        return address

    def view(self, side: int, batch: int) -> NDArray[np.float32]:
        """The pinned memory as an array of this batch; 0 is the input, 1 the output."""
        shape = (batch, *self.loaded.shapes[side])
        pointer = ctypes.cast(self.on_host[side], ctypes.POINTER(ctypes.c_float))
        return np.ctypeslib.as_array(pointer, shape)

    def run(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        batch = len(images)
        step = self.recorded.get(batch) or self.step_for(batch)
        self.view(0, batch)[...] = images  # not before a profile is seen to take the batch: the memory ends there
        step()
        self.driver.call("cuStreamSynchronize", self.stream)
        return self.view(1, batch).copy()

    def step_for(self, batch: int) -> Step:
        """One run of the batch, recorded where it can be.

        Raises:
            EngineError: no profile takes it.
        """
        profile = nearest(self.loaded.told.profiles, batch)
        if self.loaded.without_graphs or len(self.recorded) >= MOST_GRAPHS:
            if profile not in self.contexts:
                self.contexts[profile] = self.new_context(profile, recording=False)
            return self.enqueuing(self.contexts[profile], batch)
        step = self.enqueuing(self.new_context(profile, recording=True), batch)
        if not self.loaded.flavour.ahead_of_time:  # else the context does so by itself
            step = self.record(step)
        self.recorded[batch] = step
        return step

    def record(self, step: Step) -> Step:
        """The run as a CUDA graph, or as it is where that is refused, which the session then tells."""
        step()  # what a new shape asks for is done in its first run, and cannot be recorded
        self.driver.call("cuStreamSynchronize", self.stream)
        try:
            graph = CudaGraph(self.driver, self.stream, step)
        except (MissingError, EngineError) as error:
            self.loaded.refuse_graphs(str(error))
            return step

        def launch(_kept: Step = step) -> None:  # the context must live as long as the graph
            graph.launch()

        return launch

    def new_context(self, profile: int, *, recording: bool) -> Any:
        """An execution context in a profile, on this worker's memory; `recording`: of one batch alone."""
        context = self.loaded.new_context(recording=recording)
        image, logits, scratch = (address.value for address in self.on_gpu)
        context.set_device_memory(scratch, self.scratch_bytes)
        try:
            done = context.set_optimization_profile_async(profile, self.stream.value)
        except RuntimeError:  # so the bindings tell that it failed
            done = False
        done = done and context.set_tensor_address(self.loaded.input, image)
        if not (done and context.set_tensor_address(self.loaded.output, logits)):
            raise EngineError("TensorRT refuses the profile", got=self.loaded.logger.told()[-300:])
        return context

    def enqueuing(self, context: Any, batch: int) -> Step:
        if not context.set_input_shape(self.loaded.input, (batch, *self.loaded.shapes[0])):
            raise EngineError("TensorRT refuses the batch", got=self.loaded.logger.told()[-300:])
        loaded, driver, stream = self.loaded, self.driver, self.stream
        images, logits = (ctypes.c_size_t(self.view(side, batch).nbytes) for side in (0, 1))
        (images_on_gpu, logits_on_gpu, _), (images_on_host, logits_on_host) = self.on_gpu, self.on_host

        def enqueue() -> None:
            driver.call("cuMemcpyHtoDAsync_v2", images_on_gpu, images_on_host, images, stream)
            if not context.execute_async_v3(stream.value):
                raise EngineError("TensorRT failed while it ran", got=loaded.logger.told()[-300:])
            driver.call("cuMemcpyDtoHAsync_v2", logits_on_host, logits_on_gpu, logits, stream)

        return enqueue

    def __del__(self) -> None:
        """All of it goes with the thread: graphs before contexts before memory."""
        library = self.driver.library
        library.cuCtxSetCurrent(self.loaded.primary)
        self.recorded.clear()
        self.contexts.clear()
        for address in self.on_gpu:
            library.cuMemFree_v2(address)
        for address in self.on_host:
            library.cuMemFreeHost(address)
        if self.stream:
            library.cuStreamDestroy_v2(self.stream)
