"""Turns Ctrl-C and SIGTERM into one exception, which lets unfinished work be removed."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
"""Names, because some systems lack some of these signals."""
REPEAT_S, RETRY_S, PATIENCE_S = 1.0, 0.05, 5.0


class Interrupted(KeyboardInterrupt):
    """A signal asked to stop. A note reports what happened to the work."""

    def __init__(self, number: int) -> None:
        self.exit_code = 128 + number
        super().__init__("interrupted")


class Listener:
    """Handles signals: raises `Interrupted` as soon as this does no harm."""

    def __init__(self) -> None:
        self.number: int | None = None
        """The last signal that was raised."""
        self.raised_s = -math.inf
        self.timers: list[threading.Timer] = []

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if len(self.timers) < PATIENCE_S / RETRY_S and is_importing(frame):
            self.timers.append(threading.Timer(RETRY_S, signal_main_thread, [number]))
            self.timers[-1].start()
            return
        # A second Ctrl-C right after the first must not stop the cleanup.
        if (now_s := time.monotonic()) - self.raised_s >= REPEAT_S:
            self.number, self.raised_s = number, now_s
            raise Interrupted(number)

    def close(self) -> None:
        for timer in self.timers:
            timer.cancel()


@contextmanager
def interruptible(*, to_the_end: bool = False) -> Iterator[None]:
    """Raise `Interrupted` for every signal that asks to stop.

    With `to_the_end`, the process ends after the block: further signals must not disturb the report of the first.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    listener = Listener()
    replaced = {number: signal.getsignal(number) for number in heeded()}
    for number in replaced:
        signal.signal(number, listener)
    try:
        yield
    except Exception as error:
        if listener.number is None:
            raise
        # A C library may hide the interrupt and raise its own error.
        interrupted = Interrupted(listener.number)
        for note in getattr(error, "__notes__", ()):
            interrupted.add_note(note)
        raise interrupted from error
    finally:
        listener.close()
        for number, handler in replaced.items():
            signal.signal(number, signal.SIG_IGN if to_the_end and listener.number is not None else handler)


def heeded() -> list[int]:
    """List the signals that end a command. Ignored signals stay ignored, because `nohup` needs this."""
    numbers = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]
    return [number for number in numbers if signal.getsignal(number) not in (signal.SIG_IGN, None)]


def signal_main_thread(number: int) -> None:
    """Send the signal again, to the main thread, which wakes it even from sleep."""
    main = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and main is not None:
        signal.pthread_kill(main, number)
    else:
        signal.raise_signal(number)


def is_importing(frame: FrameType | None) -> bool:
    """Return whether an import is running: an exception inside a C library may then crash the process."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


@contextmanager
def leaving(outcome: str) -> Iterator[None]:
    """If an exception ends the block, add a note about what happened to the work."""
    try:
        yield
    except BaseException as error:
        error.add_note(outcome)
        raise
