"""Runs a long call into TensorRT in its own thread, so that Ctrl-C can stop it.

Python runs signal handlers in the main thread, as soon as Python code runs there. If the main thread were in a build,
that would be a callback of TensorRT. TensorRT drops exceptions from its callbacks and continues to build.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Result = TypeVar("Result")


def stoppable(call: Callable[[], Result], stop: Callable[[], None]) -> Result:
    """The result of `call()`, or its exception. An interruption calls `stop()`, and waits until `call` has ended.

    Further interruptions do not end the wait, because a process that exits while TensorRT works crashes.
    """
    done: Future[Result] = Future()

    def run() -> None:
        try:
            done.set_result(call())
        except BaseException as error:
            done.set_exception(error)

    thread = threading.Thread(target=run, name="TensorRT", daemon=True)
    try:
        thread.start()
        return done.result()
    except BaseException:
        if not done.done():
            stop()
            while thread.is_alive() and not done.done():
                with contextlib.suppress(KeyboardInterrupt):
                    done.exception()
        raise
