"""Collects what the words of configs say, with the words themselves for the messages."""

from __future__ import annotations

from collections.abc import Mapping

from paraexport.checkpoint.given import Given, Guesses, truncated
from paraexport.errors import SpecError, on_one_line

LONGEST_VALUE = 80
PARTLY = "partly followed"
"""What is assumed of a config with words that are not."""


class Reading:
    """What configs have said so far."""

    def __init__(self, taken: Mapping[str, object], guesses: Guesses, *, module: bool) -> None:
        self.taken = taken
        """What options settle: nothing that a config says of it counts."""
        self.guesses = guesses
        self.module = module
        """The model is a module that is there."""
        self.said: dict[str, tuple[object, str]] = {}
        self.claims: list[tuple[str, object, str]] = []
        self.problems: list[str] = []
        self.unknown_words: dict[str, list[str]] = {}
        self.defaults: list[tuple[str, object, str]] = []

    def say(self, field: str, value: object, text: str) -> None:
        """A word that settles a field; two that disagree are refused."""
        if field in self.taken:
            return
        before = self.said.setdefault(field, (value, text))
        if before[0] != value and not (self.module and field in ("heads", "head_dim")):
            self.refuse(f"{before[1]} and {text}", "contradict each other", (field,))

    def claim(self, field: str, value: object, text: str, *, passed: bool) -> None:
        """A word about what the weights settle."""
        if field in self.taken:
            return
        self.claims.append((field, value, text))
        if passed and not callable(value):
            self.said.setdefault(field, (value, text))

    def assume(self, field: str, value: object, reason: str) -> None:
        """A default of the program whose config this is; it counts where no word of any config settles the field."""
        self.defaults.append((field, value, reason))

    def refuse(self, text: str, why: str, settled_by: tuple[str, ...], *, how: str | None = None) -> None:
        """A word that cannot be followed, unless options settle what it is about."""
        if settled_by and all(field in self.taken for field in settled_by):
            return
        if not settled_by and self.module:
            self.report(text, why)
            return
        if how is None and settled_by:
            options = " ".join(f"--spec {field}=…" for field in settled_by if field not in self.taken)
            how = f"settle it with {options}"
        said = " ".join(filter(None, (text, why)))
        self.problems.append(f"{said} ({how or 'give the model with --module FILE.py:FUNCTION'})")

    def report(self, text: str, why: str) -> None:
        """A word that is not followed."""
        self.guesses.assume("config", PARTLY, f"{text} is not followed: {why}")

    def unknown(self, source: str, key: str, value: object) -> None:
        self.unknown_words.setdefault(source, []).append(shown(key, value))

    def result(self) -> tuple[Given, tuple[tuple[str, object, str], ...]]:
        """(what was said, what was claimed); raises a SpecError where something is refused."""
        if self.problems:
            raise SpecError("; ".join(dict.fromkeys(self.problems)))
        for field, value, reason in self.defaults:
            if field not in self.taken and field not in self.said:
                self.said[field] = (value, reason)
                self.guesses.assume(field, value, reason)
        for source, words in self.unknown_words.items():
            known = "are" if len(words) > 1 else "is"
            self.guesses.assume("config", PARTLY, f"{source}: {truncated(words)} {known} not known and not followed")
        values = {field: value for field, (value, _) in self.said.items()}
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
    except (ValueError, RecursionError):  # Python does not write out numbers of thousands of digits
        return f"{name} (a {type(value).__name__} too long to show)"
    return f"{name}={text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + '…'}"
