"""What TensorRT says while it works: errors and warnings kept as lines, phases passed on as progress.

A process has one logger while anything of TensorRT lives: later ones are ignored. So this one is made once. (An error
recorder for each builder would be the documented way; with the bindings of TensorRT-RTX 1.7 it crashes the process.)
"""

from __future__ import annotations

import collections
import functools
from typing import Any

from paraexport.errors import MissingError
from paraexport.timing.clock import Progress

MOST_LINES = 200


@functools.cache
def logger_of(trt: Any) -> Any:
    """The `ILogger` of this process; `start()` forgets what it has, `told()` is every error since, on one line."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.errors: collections.deque[str] = collections.deque(maxlen=MOST_LINES)
            self.warnings: collections.deque[str] = collections.deque(maxlen=MOST_LINES)

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.ERROR:
                self.errors.append(" ".join(message.split()))
            elif severity == trt.ILogger.WARNING:
                self.warnings.append(" ".join(message.split()))

        def start(self) -> None:
            self.errors.clear()
            self.warnings.clear()

        def told(self) -> str:
            lines = dict.fromkeys(line for line in self.errors if "checkMacros" not in line)
            return "; ".join(lines) or "it gave no reason, or gave it to another logger of this process"

    return Logger()


def started(kind: Any, logger: Any) -> Any:
    """`trt.Builder(logger)` or `trt.Runtime(logger)`.

    Raises:
        MissingError: TensorRT cannot start here.
    """
    try:
        return kind(logger)
    except TypeError as error:  # what the bindings make of a null pointer
        said = logger.told()
        other = MissingError("TensorRT cannot start", where="the GPU", got=said[:300], remedy="paraexport doctor")
        raise old_driver(said, "the GPU") or other from error


def old_driver(said: str, where: object) -> MissingError | None:
    """What is wrong, where TensorRT says that it is the driver."""
    if "driver" not in said.lower():
        return None
    remedy = "update the driver: the CUDA that TensorRT was built with must not be newer than the driver's"
    return MissingError("the NVIDIA driver is too old", where=where, got=said[:300], remedy=remedy)


def new_monitor(trt: Any, progress: Progress) -> Any:
    """An `IProgressMonitor`: `progress` is told of each phase of the build, though not of the phases within.

    What `progress` raises stops the build; it is kept in `raised`, since TensorRT would lose it. So does `stop()`.
    """

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.whole: str | None = None
            self.raised: BaseException | None = None
            self.stopped = False

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:  # noqa: ARG002
            if parent is None:
                self.whole = phase
            elif parent == self.whole and self.raised is None:
                self.tell(f"engine: {phase[:1].lower()}{phase[1:]}")

        def phase_finish(self, phase: str) -> None:
            pass

        def step_complete(self, phase: str, step: int) -> bool:  # noqa: ARG002
            return self.raised is None and not self.stopped

        def stop(self) -> None:
            self.stopped = True

        def tell(self, words: str) -> None:
            try:
                progress(words)
            except BaseException as error:
                self.raised = error

    return Monitor()
