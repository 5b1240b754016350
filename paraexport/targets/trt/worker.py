"""Runs batches for one thread of a session: a stream, memory, and execution contexts that take turns on the stream.

It has not been run on a GPU yet (docs/tensorrt.md). It follows NVIDIA's documents: "Working with Dynamic Shapes" and
"CUDA Graphs" of TensorRT, "Working with RTX CUDA Graphs" and "Working with Runtime Cache" of TensorRT-RTX.

A CUDA graph fixes the batch size and all addresses, so each graph has its own context. The contexts run one after
another, so they share their scratch memory.
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
from paraexport.targets.trt.device import RESTART
from paraexport.targets.trt.loaded import LoadedEngine

REBUILD = "build the bundle again"
FLOAT32_BYTES = 4
NON_BLOCKING = 1
"""CU_STREAM_NON_BLOCKING: the stream does not wait for the default one."""
MOST_GRAPHS = 8
"""Batch sizes that one thread records, the first ones that come. Each needs a context. Others run kernel by kernel."""
Step = Callable[[], None]
"""Puts one run onto the stream: images to the GPU, the network, logits back."""


class Worker:
    """Runs batches for one thread.

    None of its attributes refers back to it. So it is freed together with its thread or session, and not by the garbage
    collector, which may run during a recording. Memory cannot be freed during a recording.
    """

    def __init__(self, loaded: LoadedEngine) -> None:
        self.loaded, self.driver = loaded, loaded.driver
        self.stream = ctypes.c_void_p()
        self.on_gpu: list[ctypes.c_void_p] = []
        self.on_host: list[ctypes.c_void_p] = []
        self.recorded: dict[int, Step] = {}
        self.contexts: dict[int, Any] = {}
        self.driver.call("cuStreamCreate", ctypes.byref(self.stream), NON_BLOCKING)
        max_batch = max(batch_range.max for batch_range in loaded.info.profiles)
        sizes = [max_batch * math.prod(shape) * FLOAT32_BYTES for shape in loaded.shapes]
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
        """The pinned memory as an array [batch, …]; `side` 0 is the input, 1 the output."""
        shape = (batch, *self.loaded.shapes[side])
        pointer = ctypes.cast(self.on_host[side], ctypes.POINTER(ctypes.c_float))
        return np.ctypeslib.as_array(pointer, shape)

    def run(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        batch = len(images)
        step = self.recorded.get(batch) or self.step_for(batch)
        self.view(0, batch)[...] = images  # after `step_for`, which refuses batches larger than this memory
        step()
        self.driver.call("cuStreamSynchronize", self.stream)
        return self.view(1, batch).copy()

    def step_for(self, batch: int) -> Step:
        """One run of a batch of this size, recorded if possible.

        Raises:
            EngineError: no profile accepts it.
        """
        profile = nearest(self.loaded.info.profiles, batch)
        if self.loaded.without_graphs or len(self.recorded) >= MOST_GRAPHS:
            if profile not in self.contexts:
                self.contexts[profile] = self.new_context(profile, recording=False)
            return self.enqueuing(self.contexts[profile], batch)
        step = self.enqueuing(self.new_context(profile, recording=True), batch)
        if not self.loaded.flavour.ahead_of_time:  # otherwise the context records by itself
            step = self.record(step)
        self.recorded[batch] = step
        return step

    def record(self, step: Step) -> Step:
        """The run as a CUDA graph. If the driver refuses, the run as it is, and the session reports the reason."""
        step()  # the first run with a new shape makes calls that cannot be recorded
        self.driver.call("cuStreamSynchronize", self.stream)
        try:
            graph = CudaGraph(self.driver, self.stream, step)
        except (MissingError, EngineError) as error:
            self.loaded.refuse_graphs(str(error))
            return step

        def launch(_context: Step = step) -> None:  # `step` keeps the context alive, which the graph needs
            graph.launch()

        return launch

    def new_context(self, profile: int, *, recording: bool) -> Any:
        """An execution context in a profile, on this worker's memory; with `recording` for one batch size only."""
        context = self.loaded.new_context(recording=recording)
        image, logits, scratch = (address.value for address in self.on_gpu)
        context.set_device_memory(scratch, self.scratch_bytes)
        try:
            done = context.set_optimization_profile_async(profile, self.stream.value)
        except RuntimeError:  # this is how the bindings report a failure
            done = False
        done = done and context.set_tensor_address(self.loaded.input, image)
        if not (done and context.set_tensor_address(self.loaded.output, logits)):
            got = self.loaded.logger.error_text()[-300:]
            raise EngineError("TensorRT refuses the profile", got=got, remedy=REBUILD)
        return context

    def enqueuing(self, context: Any, batch: int) -> Step:
        if not context.set_input_shape(self.loaded.input, (batch, *self.loaded.shapes[0])):
            got = self.loaded.logger.error_text()[-300:]
            raise EngineError("TensorRT refuses the batch", got=got, remedy=REBUILD)
        loaded, driver, stream = self.loaded, self.driver, self.stream
        images, logits = (ctypes.c_size_t(self.view(side, batch).nbytes) for side in (0, 1))
        (images_on_gpu, logits_on_gpu, _), (images_on_host, logits_on_host) = self.on_gpu, self.on_host

        def enqueue() -> None:
            driver.call("cuMemcpyHtoDAsync_v2", images_on_gpu, images_on_host, images, stream)
            if not context.execute_async_v3(stream.value):
                raise EngineError("TensorRT failed in a run", got=loaded.logger.error_text()[-300:], remedy=RESTART)
            driver.call("cuMemcpyDtoHAsync_v2", logits_on_host, logits_on_gpu, logits, stream)

        return enqueue

    def __del__(self) -> None:
        """Free everything in the order of dependence: graphs, then contexts, then memory."""
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
