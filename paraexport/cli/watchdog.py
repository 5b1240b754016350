"""Ends the process after a signal that the main thread does not handle.

Python runs signal handlers in the main thread, and only between two Python instructions. No handler runs while a C
library works there or waits for ever. But the system still writes the signal's number to a descriptor, which a thread
reads here. Unfinished files then stay, and the next build removes them.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping

from paraexport.cli.signals import is_importing

CAN_WATCH = os.name == "posix"
ENDS_S = 5.0
"""The time from the first signal to the end of the process."""
IMPORTING_ENDS_S = 20.0
"""The same while libraries are imported. This is slow on a busy machine, and a signal waits until it ends."""
TURN_S = 1.0

Farewell = Callable[[int], Mapping[int, bytes]]
"""The number of the signal -> the text to write to each descriptor."""


class Watchdog:
    """Watches for the signals `numbers` until `stop` is called. Create it in the main thread."""

    def __init__(self, numbers: Collection[int], farewell: Farewell) -> None:
        self.numbers, self.farewell = numbers, farewell
        self.finished = False
        """The work has ended normally, and nothing needs to be printed."""
        self.main = threading.get_ident()
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.writer, False)
        self.before = signal.set_wakeup_fd(self.writer, warn_on_full_buffer=False)
        # Otherwise signals to a child process, as in multiprocessing, would also arrive here.
        os.register_at_fork(after_in_child=self.forget)
        self.thread = threading.Thread(target=self.watch, name="watchdog", daemon=True)
        self.thread.start()

    def stop(self) -> None:
        signal.set_wakeup_fd(self.before)
        os.close(self.writer)  # which ends the thread
        self.writer = -1
        self.thread.join()
        os.close(self.reader)

    def forget(self) -> None:
        if self.writer >= 0:
            signal.set_wakeup_fd(-1)

    def watch(self) -> None:
        number = 0
        while number not in self.numbers:
            if not (content := os.read(self.reader, 1)):
                return
            number = content[0]
        began_s = time.monotonic()
        if self.is_stopped_within(ENDS_S):
            return
        while is_importing(sys._current_frames().get(self.main)) and time.monotonic() - began_s < IMPORTING_ENDS_S:
            if self.is_stopped_within(TURN_S):
                return
        for descriptor, text in ({} if self.finished else self.farewell(number)).items():
            with contextlib.suppress(OSError):
                if select.select([], [descriptor], [], 0)[1]:  # never wait for a reader
                    os.write(descriptor, text)
        os._exit(128 + number)

    def is_stopped_within(self, seconds: float) -> bool:
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0:
            if select.select([self.reader], [], [], left_s)[0] and not os.read(self.reader, 1):
                return True
        return False


@contextlib.contextmanager
def watched(numbers: Collection[int], farewell: Farewell, *, to_the_end: bool) -> Iterator[None]:
    """Watch the block. With `to_the_end`, also watch the rest of the process, because a thread may keep it alive."""
    if not CAN_WATCH or threading.current_thread() is not threading.main_thread():
        yield
        return
    watchdog = Watchdog(numbers, farewell)
    try:
        yield
    finally:
        watchdog.finished = True
        if not to_the_end:
            watchdog.stop()
