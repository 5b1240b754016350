"""A long call into TensorRT that Ctrl-C stops: it has a thread of its own, so that the one that called hears signals.

Python runs the handler of a signal in the main thread, as soon as Python runs there: in one of TensorRT's callbacks,
where that thread is in a build. What the handler raises there goes through TensorRT, which drops it and builds on.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Result = TypeVar("Result")


def stoppable(call: Callable[[], Result], stop: Callable[[], None]) -> Result:
    """The result of `call()`, or what it raises. Interrupted, it calls `stop()` and waits for `call` to end early.

    It waits through further interruptions too: a process that ends while TensorRT works crashes.
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
