"""Shows the stages of a command on stderr while they run."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

from paraexport.cli.output import say
from paraexport.cli.render import console

if TYPE_CHECKING:
    from rich.status import Status

STDOUT, STDERR = 1, 2
STEP = ": "
"""In the name of a step inside a stage."""


@contextlib.contextmanager
def descriptor_redirected(descriptor: int, other: int) -> Iterator[None]:
    """Redirect output of C libraries and other processes from `descriptor` to `other`. Either may be closed."""
    try:
        kept = os.dup(descriptor)
    except OSError:
        yield
        return
    try:
        with contextlib.suppress(OSError):
            os.dup2(other, descriptor)
        yield
    finally:
        os.dup2(kept, descriptor)
        os.close(kept)


class Stages:
    """Shows each stage on stderr when it begins, and measures its seconds. Call it with the name of the stage.

    Output of a stage also goes to stderr: a user's module may print anything, and stdout is for results.
    """

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet
        self.names: list[str] = []
        self.starts: list[float] = []
        self.status: Status | None = None
        self.stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self.stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        self.stack.enter_context(descriptor_redirected(STDOUT, STDERR))
        if not self.quiet and sys.stderr.isatty():
            self.status = self.stack.enter_context(console(sys.stderr).status(""))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.starts.append(time.perf_counter())
        self.stack.close()

    def __call__(self, name: str) -> None:
        self.starts.append(time.perf_counter())
        self.names.append(name)
        if self.status is not None:
            if len(self.names) > 1:
                self.status.console.print(f"{self.names[-2]:12} {self.starts[-1] - self.starts[-2]:6.1f} s")
            self.status.update(name)
        elif not self.quiet:
            say(f"{name}...")

    def seconds(self) -> dict[str, float]:
        """Return the seconds of each stage, after all have ended. Steps such as `int8: …` count for their stage."""
        seconds: dict[str, float] = {}
        stage = ""
        for name, start, end in zip(self.names, self.starts, self.starts[1:], strict=False):
            stage = stage if STEP in name and stage else name
            seconds[stage] = seconds.get(stage, 0.0) + end - start
        return seconds
