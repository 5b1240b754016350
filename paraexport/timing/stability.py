"""Windows of calls that repeat until the last ones agree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from paraexport.timing.percentiles import Summary, percentile, summarize


@dataclass(frozen=True)
class StoppingRule:
    """Stop when the last `windows` windows agree within `within` on one percentile, or after `at_most` windows.

    NVIDIA's perf_analyzer stops by the same rule, with the same three windows and 10 %.
    """

    percent: float = 50.0
    windows: int = 3
    within: float = 0.1
    at_most: int = 20

    def stable(self, values_ms: Sequence[float]) -> bool:
        """Whether the last of these values agree: the largest is at most 1 + `within` times the smallest."""
        last = values_ms[-self.windows :]
        return len(last) == self.windows and max(last) <= (1 + self.within) * min(last)


@dataclass(frozen=True)
class Windows:
    """The latencies of each window, in ms."""

    latencies_ms: tuple[tuple[float, ...], ...]
    rule: StoppingRule

    @property
    def values_ms(self) -> list[float]:
        """The percentile of the rule, for each window."""
        return [percentile(window, self.rule.percent) for window in self.latencies_ms]

    @property
    def stable(self) -> bool:
        return self.rule.stable(self.values_ms)

    @property
    def latency_ms(self) -> float:
        """The median, over the last windows, of the percentile of the rule."""
        return percentile(self.values_ms[-self.rule.windows :], 50)

    @property
    def summary(self) -> Summary:
        """All calls of the last windows together."""
        return summarize([ms for window in self.latencies_ms[-self.rule.windows :] for ms in window])


def repeat_until_stable(window: Callable[[], Sequence[float]], rule: StoppingRule | None = None) -> Windows:
    """Run windows until they are stable. The caller must check `stable`: it is False if they never were.

    Args:
        window: makes one or more calls and returns their latencies in ms.
    """
    rule = rule or StoppingRule()
    windows = Windows((), rule)
    while not windows.stable and len(windows.latencies_ms) < rule.at_most:
        windows = Windows((*windows.latencies_ms, tuple(window())), rule)
    return windows
