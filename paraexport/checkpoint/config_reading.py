"""Collects the statements of configs, with their words for messages."""

from __future__ import annotations

from collections.abc import Mapping

from paraexport.checkpoint.given import Given, Guesses
from paraexport.errors import SpecError, on_one_line, shortlist

LONGEST_VALUE = 80
PARTLY = "partly followed"
"""The value of the assumption about a config with ignored words."""


class ConfigReading:
    """The statements of all configs so far."""

    def __init__(self, taken: Mapping[str, object], guesses: Guesses, *, module: bool) -> None:
        self.taken = taken
        """The fields that options settle. Configs do not count for them."""
        self.guesses = guesses
        self.module = module
        """Whether the model comes as a module."""
        self.applied: dict[str, tuple[object, str]] = {}
        self.claims: list[tuple[str, object, str]] = []
        self.problems: list[str] = []
        self.unknown_words: dict[str, list[str]] = {}
        self.defaults: list[tuple[str, object, str]] = []

    def apply(self, field: str, value: object, text: str) -> None:
        """Take the value of a field from a word. Two words that disagree are refused."""
        if field in self.taken:
            return
        before = self.applied.setdefault(field, (value, text))
        if before[0] != value and not (self.module and field in ("heads", "head_dim")):
            self.refuse(f"{before[1]} and {text}", "contradict each other", (field,))

    def claim(self, field: str, value: object, text: str, *, passed: bool) -> None:
        """Note a word about a field that the weights settle."""
        if field in self.taken:
            return
        self.claims.append((field, value, text))
        if passed and not callable(value):
            self.applied.setdefault(field, (value, text))

    def assume(self, field: str, value: object, reason: str) -> None:
        """Note a default of the program that wrote the config. It counts if no config settles the field."""
        self.defaults.append((field, value, reason))

    def refuse(self, text: str, why: str, settled_by: tuple[str, ...], *, how: str | None = None) -> None:
        """Refuse a word that is not supported, unless options settle its fields."""
        if settled_by and all(field in self.taken for field in settled_by):
            return
        if not settled_by and self.module:
            self.report(text, why)
            return
        if how is None and settled_by:
            options = " ".join(f"--spec {field}=…" for field in settled_by if field not in self.taken)
            how = f"settle it with {options}"
        problem = " ".join(filter(None, (text, why)))
        self.problems.append(f"{problem} ({how or 'give the model with --module FILE.py:FUNCTION'})")

    def report(self, text: str, why: str) -> None:
        """Report a word that is ignored."""
        self.guesses.assume("config", PARTLY, f"{text} is ignored: {why}")

    def unknown(self, source: str, key: str, value: object) -> None:
        self.unknown_words.setdefault(source, []).append(shown(key, value))

    def result(self) -> tuple[Given, tuple[tuple[str, object, str], ...]]:
        """(fields, claims). A SpecError lists everything that is refused."""
        if self.problems:
            raise SpecError("; ".join(dict.fromkeys(self.problems)))
        for field, value, reason in self.defaults:
            if field not in self.taken and field not in self.applied:
                self.applied[field] = (value, reason)
                self.guesses.assume(field, value, reason)
        for source, words in self.unknown_words.items():
            be = "are" if len(words) > 1 else "is"
            self.guesses.assume("config", PARTLY, f"{source}: {shortlist(words)} {be} unknown and ignored")
        values = {field: value for field, (value, _) in self.applied.items()}
        return Given(**values), tuple(self.claims)  # type: ignore[arg-type]


def shown(key: str, value: object) -> str:
    """`crop_pct=0.9`, on one line and not too long."""
    name = key if key.isprintable() and len(key) <= LONGEST_VALUE else repr(key[:LONGEST_VALUE])
    if isinstance(value, bool | None):
        return f"{name}={'null' if value is None else str(value).lower()}"
    if not isinstance(value, str | int | float | list | tuple | dict):
        return f"{name} (a {getattr(value, 'kind', type(value).__name__)})"
    try:
        text = on_one_line(repr(value))
    except (ValueError, RecursionError):  # Python does not print numbers with thousands of digits
        return f"{name} (a {type(value).__name__} too long to show)"
    return f"{name}={text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + '…'}"
