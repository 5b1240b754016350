"""The time that `benchmarks.gpu.check` may take, and what is left of it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

FIRST_STEP_S = 20.0
"""Expected for the first step of a kind."""


class TimeBudget:
    """Seconds for the whole run, and the longest step of each kind so far."""

    def __init__(self, seconds: float) -> None:
        self.end_s = time.monotonic() + seconds
        self.longest_s: dict[str, float] = {}

    def left_s(self) -> float:
        return max(self.end_s - time.monotonic(), 0.0)

    def refusal(self, kind: str) -> str:
        """The reason not to start a step of this kind, or empty. It may take twice as long as the longest so far."""
        left_s, longest_s = self.left_s(), self.longest_s.get(kind)
        if left_s > 2 * (longest_s or FIRST_STEP_S):
            return ""
        if longest_s is None:
            return "no time left"
        return f"no time left: {left_s:.0f} s, and {kind} took up to {longest_s:.0f} s"

    @contextlib.contextmanager
    def step(self, kind: str) -> Iterator[None]:
        started_s = time.monotonic()
        try:
            yield
        finally:
            self.longest_s[kind] = max(self.longest_s.get(kind, 0.0), time.monotonic() - started_s)
