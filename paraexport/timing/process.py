"""One contestant of a contest: a command that answers in lines of JSON."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from typing import IO

BURST_AT_MOST_S = 60.0
"""Beyond the time that the burst was asked to last."""
CLOSE_AT_MOST_S = 5.0


class Process:
    """A running command. `failure` is the reason why it cannot be timed, or empty."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.failure = ""
        self.facts: Mapping[str, object] = {}
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (a pipe that nobody reads would fill up)
        self.popen = subprocess.Popen(  # noqa: S603 (commands of our own)
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env={**os.environ, **environment},
        )

    def load(self, at_most_s: float) -> None:
        """Wait until it is ready, and keep the facts that it reports."""
        answer = self.answer(at_most_s)
        if isinstance(answer, dict):
            self.failure, self.facts = str(answer.get("error", "")), answer

    def answer(self, at_most_s: float) -> object:
        """The next object or list in JSON. If none comes, set `failure` and return None.

        Other lines are skipped, because a library may print a greeting on stdout.
        """
        timer = threading.Timer(at_most_s, self.popen.kill)
        started_s = time.monotonic()
        timer.start()
        try:
            for line in stream(self.popen.stdout):
                with contextlib.suppress(ValueError):
                    if isinstance(answer := json.loads(line), dict | list):
                        return answer
            code = self.popen.wait()
        finally:
            timer.cancel()
        if time.monotonic() - started_s >= at_most_s:
            self.failure = f"no answer within {at_most_s:g} s"
            return None
        self.errors.seek(0)
        errors = [text.strip() for text in self.errors if text.strip()]
        self.failure = errors[-1] if errors else f"the process ended with code {code}"
        return None

    def burst(
        self, batch: int, seconds: float, calls_at_least: int = 1, *, pause_s: float = 0.0, streams: int = 1
    ) -> list[float]:
        """Latencies in ms. If the process fails, set `failure` and return an empty list."""
        request = {
            "batch": batch, "seconds": seconds, "calls_at_least": calls_at_least, "pause_s": pause_s, "streams": streams
        }  # fmt: skip
        try:
            print(json.dumps(request), file=self.popen.stdin, flush=True)
        except OSError as error:
            self.failure = str(error)
            return []
        answer = self.answer(BURST_AT_MOST_S + seconds + calls_at_least * pause_s)
        if isinstance(answer, list) and answer:
            return answer
        if answer is not None:
            reason = answer.get("error") if isinstance(answer, dict) else None
            self.failure = str(reason or "it answered without latencies")
        return []

    def close(self) -> None:
        with contextlib.suppress(OSError):
            stream(self.popen.stdin).close()
        try:
            self.popen.wait(CLOSE_AT_MOST_S)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
        stream(self.popen.stdout).close()
        self.errors.close()


def stream(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe
