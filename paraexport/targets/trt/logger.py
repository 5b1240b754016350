"""Collects the messages of TensorRT: errors and warnings as lines, and phases of a build as progress.

TensorRT ignores a second logger while any of its objects exists. So each process creates one logger. (The documented
way is an error recorder for each builder, but with the bindings of TensorRT-RTX 1.7 it crashes the process.)
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
    """The `ILogger` of this process. `clear()` forgets its messages; `error_text()` gives all errors since."""

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

        def clear(self) -> None:
            self.errors.clear()
            self.warnings.clear()

        def error_text(self) -> str:
            lines = dict.fromkeys(line for line in self.errors if "checkMacros" not in line)
            return "; ".join(lines) or "it gave no reason, or sent it to another logger of this process"

    return Logger()


def start(create: Any, logger: Any) -> Any:
    """`create(logger)`, with `trt.Builder` or `trt.Runtime` as `create`.

    Raises:
        MissingError: TensorRT cannot start here.
    """
    try:
        return create(logger)
    except TypeError as error:  # the bindings raise this for a null pointer
        message, remedy = logger.error_text(), "run `paraexport doctor` to see what is missing"
        other = MissingError("TensorRT cannot start", where="the GPU", got=message[:300], remedy=remedy)
        raise old_driver_error(message, "the GPU") or other from error


def old_driver_error(message: str, where: object) -> MissingError | None:
    """The error for an old driver, if TensorRT's message blames the driver."""
    if "driver" not in message.lower():
        return None
    remedy = "update the driver: it must support the CUDA version that TensorRT was built with"
    return MissingError("the NVIDIA driver is too old", where=where, got=message[:300], remedy=remedy)


def new_monitor(trt: Any, progress: Progress) -> Any:
    """An `IProgressMonitor` that passes each phase of the build to `progress`, but not the phases inside of it.

    An exception from `progress` stops the build. It is stored in `raised`, because TensorRT would lose it. `stop()`
    stops the build too.
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
                self.report(f"engine: {phase[:1].lower()}{phase[1:]}")

        def phase_finish(self, phase: str) -> None:
            pass

        def step_complete(self, phase: str, step: int) -> bool:  # noqa: ARG002
            return self.raised is None and not self.stopped

        def stop(self) -> None:
            self.stopped = True

        def report(self, phase: str) -> None:
            try:
                progress(phase)
            except BaseException as error:
                self.raised = error

    return Monitor()
